"""Calibration: what was measured of a branch on a machine, what the fitted models make of it, and how it is written down."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from genus.plan.machine import costs
from genus.plan.machine.costs import Rung
from genus.plan.machine.model import FORWARD, Cell, CountCell, CountCost, Ladder, MachineCost, TimeModel
from genus.recipes import make

FORMAT = 1  # of a calibration on disk
SPREAD = 0.2  # between windows of one measurement: more is a busy machine
STARVED = 0.85, 0.5  # share of the processor below which a process, of one thread or of more, was not alone


@dataclass(frozen=True)
class Setting:
    """How a branch is measured.

    Attributes:
        threads: of each process. processes: that work at once. context: positions per row.
        batch: rows of an update; None = the recipe's own. dtype: of the activations, as of `genus train`.
    """

    threads: int = 1
    processes: int = 1
    context: int = 256
    batch: int | None = None
    dtype: str = "auto"


@dataclass(frozen=True)
class Calibration:
    """What was measured of one branch.

    Attributes:
        machine: what it was measured on. threads: of each process; processes: at once. dtype: of the activations.
        vocab, tokens: of the data. ceiling: operations per second of a large matrix product in each process.
        startup: seconds from the start of a process to its first update. decode: seconds per generated token (counted).
        seconds: that the measurement took. warnings: in words.
    """

    name: str
    recipe: str
    kind: str
    machine: dict[str, Any]
    threads: int
    processes: int
    vocab: int
    context: int
    dtype: str
    tokens: int
    cells: tuple[Cell, ...] = ()
    counts: tuple[CountCell, ...] = ()
    ceiling: float = math.nan
    startup: float = 0.0
    decode: float = 0.0
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def time(self) -> TimeModel:
        """The fitted time of an update."""
        reached = max(3 * c.forward * c.tokens_per_s for c in self.cells)
        return TimeModel.fit(self.cells, max(self.ceiling, reached))

    def cost(
        self,
        rungs: Sequence[Rung] = (),
        rows: int | None = None,
        definition: str = "total",
        eval_tokens: int = 32768,
        eval_every: float = 60.0,
    ) -> MachineCost | CountCost:
        """The price of the branch on this machine.

        Args:
            rungs: the sizes of its ladder (`genus.plan.machine.costs.ladder`); not needed by a counted branch.
            rows: per update; None = the recipe's own. definition: how its methods count parameters.
            eval_tokens, eval_every: of the runs that are planned.
        """
        if self.kind == "counted":
            limit = make(self.recipe).training.memory * 2**20  # type: ignore[attr-defined]
            return CountCost.fit(self.counts, self.tokens, limit, self.decode, self.startup)
        columns = [_columns(r, self.context) for r in rungs]
        if not columns:
            raise ValueError(f"the cost of {self.name} needs the sizes of its ladder")
        base = max(c.base for c in self.cells)
        return MachineCost(
            ladder=Ladder(**{k: np.array([c[k] for c in columns], np.float64) for k in columns[0]}),
            time=self.time,
            rows=rows or rungs[0].recipe.training.batch,  # type: ignore[attr-defined]
            context=self.context,
            definition=definition,
            evaluation=self.evaluation,
            eval_tokens=eval_tokens,
            eval_every=eval_every,
            startup=self.startup,
            base=base,
            moving=self.moving,
            decode=_decoding(self.cells),
        )

    @property
    def evaluation(self) -> float:
        """Time of a validation token as a share of a training token's."""
        shares = [c.evaluation * c.tokens_per_s for c in self.cells if c.evaluation is not None]
        return statistics.median(shares) if shares else FORWARD

    @property
    def moving(self) -> float:
        """Factor between the estimated and the measured bytes of activations and logits."""
        known = [(c.moving, max(0, c.peak - c.base - c.fixed)) for c in self.cells if c.peak is not None]
        return sum(e * m for e, m in known) / sum(e * e for e, _ in known) if known else 1.0

    def memory(self, cell: Cell) -> float:
        """Bytes that the model of memory gives a measured cell."""
        return cell.base + cell.fixed + self.moving * cell.moving

    def table(self) -> str:
        """What was measured beside what the model says."""
        at_once = f"{self.processes} process{'es' * (self.processes > 1)} of {self.threads} thread{'s' * (self.threads > 1)}"
        head = f"{self.name} ({self.recipe}): {at_once}, {self.dtype}, context {self.context}"
        if self.kind == "counted":
            cost = self.cost()
            assert isinstance(cost, CountCost)
            rows = [
                f"  {c.tokens:>12,} tokens {c.seconds:9.3f} s  model {float(cost.seconds(1, c.tokens)):9.3f} s"
                f"  spread {c.spread:4.0%}  {c.peak / 2**20:6.0f} MB  {c.parameters:,} parameters"
                for c in self.counts
            ]
            return "\n".join([head, *rows, f"  left out: mean error {cost.error:.1%}, largest {cost.worst:.1%}"])
        model = self.time
        rows = []
        for c in self.cells:
            said = c.rows * c.context / model.of(c)
            held = "     ?" if c.peak is None else f"{c.peak / 2**20:6.0f}"
            rows.append(
                f"  {c.total:>12,} parameters x {c.rows:>3} rows {c.tokens_per_s:9,.0f} tokens/s  model {said:9,.0f} "
                f"({said / c.tokens_per_s - 1:+.1%})  spread {c.spread:4.0%}  {held} MB, model "
                f"{self.memory(c) / 2**20:6.0f}  {3 * c.forward * c.tokens_per_s / self.ceiling:4.0%} of the ceiling"
            )
        off = "error unknown" if math.isnan(model.error) else f"mean error {model.error:.1%}, largest {model.worst:.1%}"
        return "\n".join([head, *rows, f"  terms: {', '.join(model.terms)}; a size left out: {off}"])

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """Inverse of `to_json`."""
        plain = {k: v for k, v in value.items() if k not in ("format", "cells", "counts", "warnings")}
        cells = tuple(Cell(**c) for c in value["cells"])
        counts = tuple(CountCell(**c) for c in value["counts"])
        return cls(**plain, cells=cells, counts=counts, warnings=tuple(value["warnings"]))


def warnings(result: Calibration) -> tuple[str, ...]:
    spread = max([c.spread for c in result.cells] + [c.spread for c in result.counts])
    found = []
    if spread > SPREAD:
        found.append(
            f"{result.name}: the same step took up to {spread / (1 - spread):.0%} longer a moment later: "
            "something else works on this machine; the fastest moments were used, so longer runs may take more time"
        )
    share = min([c.busy for c in result.cells], default=1.0)
    if share < STARVED[result.threads > 1]:
        found.append(
            f"{result.name}: the processor gave a measured process only {share:.0%} of its time; "
            "what is said of seconds is true of a machine that is left alone"
        )
    if result.kind == "descended" and len({c.total for c in result.cells}) < 2:
        found.append(f"{result.name}: there was time for one size only; costs of other sizes are guessed from it")
    return tuple(found)


def _columns(rung: Rung, context: int) -> dict[str, float]:
    """One rung as an entry of each column of `Ladder`."""
    model: Any = rung.recipe.model
    return {
        "total": rung.total,
        "non_embedding": rung.non_embedding,
        "effective": rung.effective,
        "forward": rung.forward,
        "layers": costs.sublayers(model),
        "numbers": costs.activations(model, context),
        "fixed": rung.memory.fixed,
        "moving": rung.memory.moving,
        "read": costs.decoding(rung.recipe, context, 4).read,
    }


def _decoding(cells: Sequence[Cell]) -> tuple[float, float]:
    """Seconds per layer and per byte read of a generated token."""
    from scipy.optimize import nnls

    matrix = np.array([[c.layers / c.decode, c.read / c.decode] for c in cells])
    scale = matrix.max(axis=0)
    per_layer, per_byte = nnls(matrix / scale, np.ones(len(cells)))[0] / scale
    return float(per_layer), float(per_byte)
