"""What training costs on a machine that was measured: a model of seconds and bytes, fitted to a handful of cells.

The seconds of one update are a sum of what it must do: multiply (never faster than the measured speed of matrix products), take a
softmax over the vocabulary for every token, launch its layers, read and write its activations, step the optimiser. Which of these
terms a branch needs, and how far the model is off, is decided by leaving each size out in turn. Only numpy and scipy are needed
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

TRAINING = 3  # operations of an update for each of a forward pass
FORWARD = 1 / TRAINING  # share of an update's time that its forward pass takes, where it was not measured
FEW = ("operations", "tokens", "layers")  # those of fewer than three sizes
NEGLIGIBLE = 0.001  # a relative error that is no reason for another term
TERMS = ("operations", "tokens", "layers", "numbers", "parameters")  # what an update's time may be made of


@dataclass(frozen=True)
class Cell:
    """One measured training step: a size, a batch.

    Attributes:
        total, non_embedding, effective: parameters. forward: operations of the forward pass per token. layers: sublayers.
        numbers: activations per token. rows, context: of an update. micro: rows of one forward pass.
        fixed, moving: bytes of training by arithmetic (`genus.plan.machine.costs.Memory`).
        tokens_per_s: of one process, in its fastest window. spread: how far the slowest window lay below it. busy: share of
            the time that the processor worked for this process, times its threads; low when others took it.
        base: bytes of the process before it had a model; peak: the most it held, None where it cannot be told.
        evaluation: seconds per validation token, None where there is no validation split.
        decode: seconds of one generated token. read: bytes it reads.
    """

    total: int
    non_embedding: int
    effective: int
    forward: float
    layers: int
    numbers: float
    rows: int
    context: int
    micro: int
    fixed: int
    moving: int
    tokens_per_s: float
    spread: float
    busy: float
    base: int
    peak: int | None
    evaluation: float | None
    decode: float
    read: float

    @property
    def update(self) -> float:
        """Seconds of an update."""
        return self.rows * self.context / self.tokens_per_s


@dataclass(frozen=True)
class TimeModel:
    """Seconds of an update: operations / ceiling + the sum of `values` times `terms`.

    Attributes:
        ceiling: operations per second of a large matrix product. error: mean of the relative errors on sizes that were left
            out of the fit; worst: the largest of them. NaN with fewer than three sizes, when it is not known.
    """

    ceiling: float
    terms: tuple[str, ...]
    values: tuple[float, ...]
    error: float
    worst: float

    @classmethod
    def fit(cls, cells: Sequence[Cell], ceiling: float) -> TimeModel:
        """The terms that predict left-out sizes best; of terms that do so about equally well, the fewest.

        Fewer than three sizes cannot tell, and are given the terms that mattered most wherever there were three.
        """
        sizes = len({c.total for c in cells})
        if sizes < 3:
            choices: list[tuple[str, ...]] = [FEW if sizes == 2 else (FEW[0], FEW[2])]
        else:
            most = min(len(TERMS), len(cells) - 1)
            choices = [(TERMS[0], *others) for n in range(most) for others in combinations(TERMS[1:], n)]
        best: TimeModel | None = None
        for terms in choices:
            found = cls(ceiling, terms, _solve(cells, terms, ceiling), *_left_out(cells, terms, ceiling))
            if best is None or found.error < 0.9 * best.error - NEGLIGIBLE:
                best = found
        assert best is not None
        return best

    def update(self, rows: ArrayLike, context: int, quantities: Mapping[str, Array]) -> Array:
        """Seconds of an update of `rows` x `context` tokens; `quantities` as the fields of a Cell."""
        tokens = np.asarray(rows, np.float64) * context
        terms = _terms(tokens, quantities)
        return terms["operations"] / self.ceiling + sum(v * terms[t] for t, v in zip(self.terms, self.values, strict=True))  # type: ignore[no-any-return]

    def of(self, cell: Cell) -> float:
        """Seconds of a measured cell's update."""
        return float(self.update(cell.rows, cell.context, _quantities(cell)))


def _quantities(cell: Cell) -> dict[str, Any]:
    return {"forward": cell.forward, "layers": cell.layers, "numbers": cell.numbers, "total": cell.total}


def _terms(tokens: Any, of: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "operations": TRAINING * of["forward"] * tokens,
        "tokens": np.asarray(tokens, np.float64),
        "layers": np.asarray(of["layers"], np.float64),
        "numbers": of["numbers"] * tokens,
        "parameters": np.asarray(of["total"], np.float64),
    }


def _solve(cells: Sequence[Cell], terms: Sequence[str], ceiling: float) -> tuple[float, ...]:
    """Non-negative least squares of the relative errors."""
    from scipy.optimize import nnls

    rows, wanted = [], []
    for cell in cells:
        parts = _terms(cell.rows * cell.context, _quantities(cell))
        rows.append([float(parts[t]) / cell.update for t in terms])
        wanted.append(1 - parts["operations"] / ceiling / cell.update)
    matrix = np.array(rows)
    scale = np.abs(matrix).max(axis=0)
    values, _ = nnls(matrix / scale, np.array(wanted))
    return tuple(float(v) for v in values / scale)


def _left_out(cells: Sequence[Cell], terms: Sequence[str], ceiling: float) -> tuple[float, float]:
    """Mean and largest relative error on each size when the others are fitted."""
    sizes = sorted({c.total for c in cells})
    if len(sizes) < 3:
        return float("nan"), float("nan")
    errors = []
    for size in sizes:
        values = _solve([c for c in cells if c.total != size], terms, ceiling)
        model = TimeModel(ceiling, tuple(terms), values, 0.0, 0.0)
        errors += [abs(model.of(c) / c.update - 1) for c in cells if c.total == size]
    return float(np.mean(errors)), float(np.max(errors))


@dataclass(frozen=True)
class Ladder:
    """The sizes of a branch as columns, smallest first; every array has one entry per rung. Bytes are estimates."""

    total: Array
    non_embedding: Array
    effective: Array
    forward: Array
    layers: Array
    numbers: Array
    fixed: Array
    moving: Array
    read: Array

    def at(self, params: ArrayLike, definition: str) -> dict[str, Array]:
        """Every column at `params`, straight lines between the rungs and beyond them, on logarithmic scales."""
        wanted = np.log(np.asarray(params, np.float64))
        axis = np.log(getattr(self, definition))
        return {f.name: np.exp(_line(wanted, axis, np.log(getattr(self, f.name)))) for f in fields(self)}


def _line(x: Array, axis: Array, values: Array) -> Array:
    """Interpolation that goes on with the outer slopes; a single point stands for a proportion."""
    if len(axis) == 1:
        return x - axis[0] + values[0]
    left = np.clip(np.searchsorted(axis, x) - 1, 0, len(axis) - 2)
    slope = (values[left + 1] - values[left]) / (axis[left + 1] - axis[left])
    return values[left] + slope * (x - axis[left])


@dataclass(frozen=True)
class MachineCost:
    """The price of a branch that is trained by descent. Implements `genus.plan.machine.cost.Cost`.

    Seconds are those that a run counts itself, and that `genus train --time` limits: updates and evaluations. What a process
    needs before its first update is `startup` and not among them.

    Attributes:
        definition: the count of parameters that every method takes ("total", "non_embedding" or "effective").
        rows, context: of an update. evaluation: time of a validation token as a share of a training token's.
        eval_tokens: of one evaluation, of which there is one at each end of a run and one every `eval_every` seconds.
        base: bytes of a process without a model. moving: factor on the estimate of what moves; decode: seconds per layer and per
            byte read of a generated token.
    """

    ladder: Ladder
    time: TimeModel
    rows: int
    context: int
    definition: str = "total"
    evaluation: float = FORWARD
    eval_tokens: int = 32768
    eval_every: float = 60.0
    startup: float = 0.0
    base: float = 0.0
    moving: float = 1.0
    decode: tuple[float, float] = (0.0, 0.0)

    @property
    def sizes(self) -> Array:
        """Parameters of the ladder's models."""
        return getattr(self.ladder, self.definition)  # type: ignore[no-any-return]

    def counted_as(self, definition: str) -> MachineCost:
        """The same prices for parameters counted in another way."""
        return replace(self, definition=definition)

    def tokens_per_s(self, params: ArrayLike) -> Array:
        """Of training, evaluations aside."""
        return self.rows * self.context / self._update(params)

    def seconds(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        per_token = self._update(params) / (self.rows * self.context)
        training = per_token * np.asarray(tokens, np.float64)
        return training + self.evaluation * per_token * self.eval_tokens * (2 + training / self.eval_every)

    def flops(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        return TRAINING * self.ladder.at(params, self.definition)["forward"] * np.asarray(tokens, np.float64)

    def memory(self, params: ArrayLike) -> Array:
        at = self.ladder.at(params, self.definition)
        return self.base + at["fixed"] + self.moving * at["moving"]

    def decode_seconds(self, params: ArrayLike) -> Array:
        at = self.ladder.at(params, self.definition)
        return self.decode[0] * at["layers"] + self.decode[1] * at["read"]

    def _update(self, params: ArrayLike) -> Array:
        return self.time.update(self.rows, self.context, self.ladder.at(params, self.definition))

    def to_json(self) -> dict[str, Any]:
        columns = {f.name: getattr(self.ladder, f.name).tolist() for f in fields(self.ladder)}
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("ladder", "time")}
        return {"kind": "descended", "ladder": columns, "time": asdict(self.time), **plain}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MachineCost:
        """Inverse of `to_json`."""
        ladder = Ladder(**{k: np.asarray(v, np.float64) for k, v in value["ladder"].items()})
        time = TimeModel(**{**value["time"], "terms": tuple(value["time"]["terms"]), "values": tuple(value["time"]["values"])})
        plain = {k: v for k, v in value.items() if k not in ("kind", "ladder", "time", "decode")}
        return cls(ladder=ladder, time=time, decode=tuple(value["decode"]), **plain)


@dataclass(frozen=True)
class CountCell:
    """One measured count. `tokens`: of the corpus's first part; the rest as in `Cell`."""

    tokens: int
    seconds: float
    spread: float
    parameters: int
    base: int
    peak: int


@dataclass(frozen=True)
class CountCost:
    """The price of a branch that is counted. Implements `plan.machine.cost.Cost`; how many parameters it has changes nothing.

    Beyond the corpus both seconds and operations are infinite: there is nothing more to count.

    Attributes:
        parameters: of the model of the whole corpus. tokens: of the corpus.
        fixed, each: seconds, at all and per token. error, worst: as in `TimeModel`.
        bytes: of the process at most. decode: seconds of one generated token.
    """

    parameters: float
    tokens: float
    fixed: float
    each: float
    error: float
    worst: float
    bytes: float
    decode: float
    startup: float = 0.0

    @property
    def sizes(self) -> Array:
        """The one size there is."""
        return np.array([self.parameters])

    @classmethod
    def fit(cls, cells: Sequence[CountCell], tokens: int, limit: int, decode: float, startup: float) -> CountCost:
        """Seconds as a line in tokens, parameters and bytes as powers of them; `limit`: bytes that counting keeps to."""
        fixed, each = _count_line(cells)
        errors = [
            abs(np.dot(_count_line([*cells[:i], *cells[i + 1 :]]), (1, c.tokens)) / c.seconds - 1) for i, c in enumerate(cells)
        ]
        errors = errors if len(cells) > 2 else [float("nan")]
        last = cells[-1]
        grown = _power(cells, "parameters", tokens)
        taken = (last.peak - last.base) * max(1.0, tokens / last.tokens)
        peak = last.base + (taken if tokens <= last.tokens else min(taken, max(limit, last.peak - last.base)))
        return cls(grown, tokens, fixed, each, float(np.mean(errors)), float(np.max(errors)), float(peak), decode, startup)

    def seconds(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        return self._within(params, tokens, self.fixed + self.each * np.asarray(tokens, np.float64))

    def flops(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        """None: it looks up and adds up."""
        return self._within(params, tokens, np.zeros(np.shape(tokens)))

    def memory(self, params: ArrayLike) -> Array:
        return np.full(np.shape(params), self.bytes)

    def decode_seconds(self, params: ArrayLike) -> Array:
        return np.full(np.shape(params), self.decode)

    def _within(self, params: ArrayLike, tokens: ArrayLike, value: Array) -> Array:
        value, counted, _ = np.broadcast_arrays(value, np.asarray(tokens, np.float64), np.asarray(params))
        return np.where(counted <= self.tokens * (1 + 1e-9), value, np.inf)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "counted", **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CountCost:
        """Inverse of `to_json`."""
        return cls(**{k: v for k, v in value.items() if k != "kind"})


def _count_line(cells: Sequence[CountCell]) -> Array:
    """Seconds at all and per token, neither negative, by relative errors."""
    from scipy.optimize import nnls

    matrix = np.array([[1 / c.seconds, c.tokens / c.seconds] for c in cells])
    scale = matrix.max(axis=0)
    return nnls(matrix / scale, np.ones(len(cells)))[0] / scale  # type: ignore[no-any-return]


def _power(cells: Sequence[CountCell], name: str, tokens: int) -> float:
    """A quantity that grows as a power of the tokens, at `tokens`."""
    last = cells[-1]
    if len(cells) == 1 or tokens == last.tokens:
        return float(getattr(last, name) * tokens / last.tokens)
    before = cells[-2]
    slope = np.log(getattr(last, name) / getattr(before, name)) / np.log(last.tokens / before.tokens)
    return float(getattr(last, name) * (tokens / last.tokens) ** slope)


def cost_from_json(value: Mapping[str, Any]) -> MachineCost | CountCost:
    """The cost of a branch from a plan's JSON."""
    return MachineCost.from_json(value) if value["kind"] == "descended" else CountCost.from_json(value)
