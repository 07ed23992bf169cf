"""A table of training runs: how large the model was, how much it read, what loss it reached."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genus.prepare.records import read

Array = NDArray[np.float64]

# What published tables call the columns, in order of preference; compared without regard to case.
ALIASES: dict[str, tuple[str, ...]] = {
    "params": ("params", "parameters", "n_params", "num_params", "params_active_precise", "model_size", "n"),
    "tokens": ("tokens", "training_tokens", "train_tokens", "n_tokens", "num_tokens", "data", "d"),
    "loss": ("loss", "final_loss", "val_loss", "validation_loss", "eval_loss", "test_loss", "bpb", "bits_per_byte", "l"),
    "run": ("run", "run_name", "run_id", "name"),
    "unique": ("unique", "unique_tokens", "u"),
    "batch": ("batch", "batch_tokens", "tokens_per_step"),
    "flops": ("flops", "training_flops", "training flop", "compute", "c"),
    "seconds": ("seconds", "training_seconds", "wall_seconds"),
    "memory": ("memory", "memory_bytes", "peak_memory"),
}
REQUIRED = ("params", "tokens", "loss")


@dataclass(frozen=True, eq=False)
class Runs:
    """Points of training runs, one row each; all arrays are float64 of shape (rows,).

    params: number of parameters, in one definition for the whole table. tokens: training tokens seen. loss: any positive number
    that falls. run: the trajectory a point belongs to; points of one trajectory are correlated (default: each row is its own).
    unique: distinct tokens among those seen. batch: tokens per step. flops: training operations, when known better than
    6 x params x tokens. seconds: wall-clock. memory: bytes. left_out: rows of the file without such numbers.

    Raises:
        ValueError: a column has another length than the losses, or a number that is not positive and finite.
    """

    params: Array
    tokens: Array
    loss: Array
    run: NDArray[np.str_] | None = None
    unique: Array | None = None
    batch: Array | None = None
    flops: Array | None = None
    seconds: Array | None = None
    memory: Array | None = None
    name: str = "runs"
    left_out: int = 0

    def __post_init__(self) -> None:
        rows = np.asarray(self.loss).size
        for column in NUMBERS:
            values = getattr(self, column)
            if values is None:
                continue
            values = np.asarray(values, np.float64).reshape(-1)
            if len(values) != rows:
                raise ValueError(f"{self.name}: column {column!r} has {len(values)} rows, the loss has {rows}")
            bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
            if len(bad):
                raise ValueError(
                    f"{self.name}: {column!r} must be a positive number, but {len(bad)} of {rows} rows have something else "
                    f"({_some(f'row {i + 1} has {values[i]:g}' for i in bad)}); a diverged run has no place in a fit: "
                    "remove those rows"
                )
            object.__setattr__(self, column, values)
        run = [str(i) for i in range(rows)] if self.run is None else np.asarray(self.run).reshape(-1)
        if len(run) != rows:
            raise ValueError(f"{self.name}: column 'run' has {len(run)} rows, the loss has {rows}")
        object.__setattr__(self, "run", np.asarray(run, np.str_))

    def __len__(self) -> int:
        return len(self.loss)

    def __getitem__(self, rows: ArrayLike | slice) -> Runs:
        """Some of the rows: a mask, indices or a slice."""
        index: Any = rows if isinstance(rows, slice) else np.asarray(rows)
        kept = {f.name: getattr(self, f.name) for f in fields(self)}
        return Runs(**{key: value[index] if isinstance(value, np.ndarray) else value for key, value in kept.items()})

    @property
    def compute(self) -> Array:
        """Training operations: as given, otherwise 6 x params x tokens."""
        return 6 * self.params * self.tokens if self.flops is None else self.flops

    @property
    def trajectory(self) -> NDArray[np.int64]:
        """Number of each row's run, from 0."""
        return np.unique(self.run if self.run is not None else [], return_inverse=True)[1]

    def budgets(self, tolerance: float = 0.1) -> NDArray[np.int64]:
        """Group of (nearly) equal compute of each row, from 0 for the smallest; no two in it differ by more than `tolerance`."""
        compute, groups = self.compute, np.zeros(len(self), np.int64)
        group, first = -1, -math.inf
        for i in np.argsort(compute, kind="stable"):
            if compute[i] > first * (1 + tolerance) or group < 0:
                group, first = group + 1, compute[i]
            groups[i] = group
        return groups

    @classmethod
    def read(
        cls,
        path: str | Path,
        columns: Mapping[str, str] | None = None,
        where: Mapping[str, str] | None = None,
        drop: bool = False,
    ) -> Runs:
        """A table from any file of rows with named columns: .csv, .tsv, .jsonl, .parquet ..., plain or compressed.

        Args:
            columns: which column of the file is what, where the usual names (`ALIASES`) do not tell, as {"loss": "loss_c4_val"}.
            where: keep only rows with these values, as {"dataset": "c4"}.
            drop: leave out rows without positive, finite parameters, tokens and loss instead of raising.

        Raises:
            ValueError: no such column, or a value that is not a positive number; says what was looked for and what was found.
        """
        path = Path(path)
        return cls.from_rows(_records(path), name=path.name, columns=columns, where=where, drop=drop)

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[Mapping[str, Any]],
        name: str = "runs",
        columns: Mapping[str, str] | None = None,
        where: Mapping[str, str] | None = None,
        drop: bool = False,
    ) -> Runs:
        """A table from records; `read` explains the arguments."""
        for key, wanted in (where or {}).items():
            kept = [r for r in rows if str(r.get(key)) == wanted]
            if not kept:
                seen = sorted({str(r.get(key)) for r in rows})
                raise ValueError(f"{name}: no row has {key} = {wanted!r}; there is {_some(seen)}")
            rows = kept
        if not rows:
            raise ValueError(f"{name}: the table has no rows; it needs the columns {', '.join(REQUIRED)}")
        found = _columns(rows, name, columns or {})
        before = len(rows)
        if drop:
            rows = [r for r in rows if all(0 < _number(r.get(found[c])) < math.inf for c in REQUIRED)]
            if not rows:
                raise ValueError(f"{name}: no row has positive, finite {', '.join(REQUIRED)}")
        values: dict[str, Any] = {c: np.array([_number(r.get(found[c])) for r in rows]) for c in found if c != "run"}
        # A column that nobody filled is a missing column; one with holes is an error, which Runs reports.
        values = {c: v for c, v in values.items() if c in REQUIRED or not np.isnan(v).all()}
        if "run" in found:
            values["run"] = np.array([str(r.get(found["run"])) for r in rows])
        return cls(**values, name=name, left_out=before - len(rows))


NUMBERS = tuple(f.name for f in fields(Runs) if f.name not in ("run", "name", "left_out"))


def near_optimal(runs: Runs, within: float = 0.08, tolerance: float = 0.1) -> Array:
    """Weight 1 for rows whose loss is within a share of the best that their compute (and `tolerance`) has reached, else 0.

    Rows far from the best size of their budget say little about the frontier and bend the exponents, because no law of five
    parameters fits them too. Smaller budgets count: a table whose rows each have their own compute has no other best.
    """
    order = np.argsort(runs.compute, kind="stable")
    compute, loss = runs.compute[order], runs.loss[order]
    reach = np.searchsorted(compute, compute * (1 + tolerance), side="right")
    weights = np.empty(len(runs))
    weights[order] = loss <= (1 + within) * np.minimum.accumulate(loss)[reach - 1]
    return weights


def _records(path: Path) -> Sequence[Mapping[str, Any]]:
    """The rows of a file, all of them.

    Raises:
        ValueError: one of them cannot be read.
    """
    found = read(path)
    if found.rejected:
        first = found.rejected[0]
        raise ValueError(f"{first.place}: {first.reason} ({first.excerpt}); each row is a run with {', '.join(REQUIRED)}")
    return found.rows


def _columns(rows: Sequence[Mapping[str, Any]], name: str, chosen: Mapping[str, str]) -> dict[str, str]:
    """Which column of the file holds what."""
    present = list(dict.fromkeys(key for row in rows for key in row if isinstance(key, str)))
    folded = {key.strip().casefold(): key for key in reversed(present)}
    found = {}
    for column, aliases in ALIASES.items():
        if column in chosen:
            if chosen[column] not in present:
                raise ValueError(f"{name}: there is no column {chosen[column]!r} for {column}; there is {', '.join(present)}")
            found[column] = chosen[column]
        else:
            alias = next((alias for alias in aliases if alias in folded), None)
            if alias is not None:
                found[column] = folded[alias]
    unknown = set(chosen) - set(ALIASES)
    if unknown:
        raise ValueError(f"a table of runs has no {', '.join(sorted(unknown))}; it has {', '.join(ALIASES)}")
    missing = [column for column in REQUIRED if column not in found]
    if missing:
        wanted = "; ".join(f"{column} (or {', '.join(ALIASES[column][1:])})" for column in missing)
        raise ValueError(
            f"{name}: missing {'column' if len(missing) == 1 else 'columns'} {wanted}. Found: {', '.join(present)}. "
            f"Rename it, or say which it is: {missing[0]}=COLUMN"
        )
    return found


def _number(value: Any) -> float:
    """NaN where there is no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _some(items: Iterable[str], most: int = 5) -> str:
    items = list(items)
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
