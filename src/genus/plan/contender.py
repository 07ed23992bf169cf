"""A branch while its plan is made: its sizes, its prices, what its small runs gave, and the forecast that follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genus.plan.branches import Branch
from genus.plan.decide import Candidate
from genus.plan.design.cells import Cell
from genus.plan.design.information import FEWEST_SIZES
from genus.plan.forecast.exact import Exact
from genus.plan.forecast.forecaster import FORMS, ONE_VARIABLE, Band, Forecast, forecast
from genus.plan.frame import PASSES, Frame
from genus.plan.machine.cost import Cost
from genus.plan.machine.costs import DEFINITIONS, Rung
from genus.plan.machine.measured import Calibration
from genus.plan.store import Json
from genus.plan.table import Array, Runs
from genus.plan.trials.pilot import Check
from genus.plan.trials.trial import Result, Trial

ENOUGH = 6  # points of a branch from which it may be dropped


@dataclass(frozen=True)
class InTotal:
    """A forecast whose sizes are counted in one of DEFINITIONS, asked in total parameters, as prices are.

    Attributes:
        total, counted: (sizes,) of the branch's ladder in both counts, rising.
    """

    forecast: Forecast
    total: Array
    counted: Array

    def predict(self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None = None) -> Band:
        return self.forecast.predict(self._converted(params), tokens, unique=unique)

    def draws(self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None = None) -> Array:
        return self.forecast.draws(self._converted(params), tokens, unique=unique)

    def deviation(self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None = None) -> Array:
        return self.forecast.deviation(self._converted(params), tokens, unique=unique)

    def ratio(self, params: ArrayLike, tokens: ArrayLike) -> Array:
        return self.forecast.ratio(self._converted(params), tokens)

    def _converted(self, params: ArrayLike) -> Array:
        """Straight lines between the sizes, on logarithmic scales; proportional beyond them."""
        wanted = np.asarray(params, np.float64)
        inside = np.clip(wanted, self.total[0], self.total[-1])
        at: NDArray[np.float64] = np.exp(np.interp(np.log(inside), np.log(self.total), np.log(self.counted)))
        return at * wanted / inside


@dataclass
class Contender:
    """One branch of a plan. Sizes are total parameters throughout.

    Attributes:
        rungs: its sizes, smallest first; a counted branch has one, of unknown size. small, large: prices of a small run (one
            process of several) and of the run that is planned (the whole machine).
        cells: of the sweep. results: of its trials, by key. check: what the pilot said of its learning rate.
        forecast: of the loss, once there are enough points. definition: of the parameters that it predicts best with.
        identifiability: of its cells, as JSON, computed before they were paid for.
        status, reason: as in `genus.plan.store.Branch`.
    """

    branch: Branch
    rungs: list[Rung]
    small: Cost
    large: Cost
    calibrations: list[Calibration] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    check: Check | None = None
    forecast: Forecast | None = None
    definition: str = "total"
    identifiability: Json = field(default_factory=dict)
    status: str = "alive"
    reason: str = ""

    @property
    def name(self) -> str:
        return self.branch.name

    @property
    def counted(self) -> bool:
        return self.branch.kind == "counted"

    @property
    def alive(self) -> bool:
        return self.status == "alive"

    def leave(self, status: str, reason: str) -> None:
        """Take no further part."""
        self.status, self.reason = status, reason

    def rung(self, params: float) -> Rung:
        """The size nearest to `params`."""
        return min(self.rungs, key=lambda r: abs(np.log(max(r.total, 1) / max(params, 1.0))))

    def trials(self, frame: Frame) -> list[Trial]:
        """The small runs of its cells."""
        rungs = [self.rung(c.params) for c in self.cells]
        return [
            frame.trial(self.branch, rung, c.horizons, self.lr_factor(rung.total, c.horizons[-1]))
            for c, rung in zip(self.cells, rungs, strict=True)
        ]

    def lr_factor(self, params: float, tokens: float) -> float:
        """On the published learning rate, for a size and a length."""
        return 1.0 if self.check is None else self.check.at(params, tokens)

    @property
    def enough_sizes(self) -> bool:
        """Whether sizes can be told apart; a counted branch has one."""
        return self.counted or sum(bool(r.points) for r in self.results.values()) >= FEWEST_SIZES

    def points(self) -> int:
        return sum(len(r.points) for r in self.results.values())

    def passes(self, frame: Frame) -> float:
        """Most passes over the corpus that the forecast may be asked for: twice what was tried."""
        tried = max((p.tokens for r in self.results.values() for p in r.points), default=0) / max(1, frame.unique)
        return max(PASSES, 2 * tried)

    def runs(self, definition: str) -> Runs:
        """What was measured as a table; sizes counted by `definition`."""
        rows = [row for r in self.results.values() if r.points for row in r.rows(definition)]
        if self.counted:  # one model that grows with the data: its size is no variable
            rows = [{**row, "params": 1.0, "flops": row["tokens"]} for row in rows]
        return Runs.from_rows(rows, self.name)

    def refit(self) -> bool:
        """Forecast anew from what there is. False: it is too little, and the reason is kept."""
        if self.counted:
            fitted, definition = self._forecast("total"), "total"
        else:
            fitted, definition = self._forecast(self.definition), self.definition
        self.forecast = fitted
        self.definition = definition
        return fitted is not None

    def settle(self) -> None:
        """Choose the count of parameters under which held-out small runs are predicted best, and refit with it."""
        if self.counted or self.forecast is None:
            return
        tried = {d: f for d in DEFINITIONS if (f := self._forecast(d)) is not None}
        self.definition = min(tried, key=lambda d: held_out(tried[d]))
        self.forecast = tried[self.definition]

    def _forecast(self, definition: str) -> Forecast | None:
        try:
            return forecast(self.runs(definition), ONE_VARIABLE if self.counted else FORMS)
        except ValueError as error:
            self.reason = str(error)
            return None

    def surface(self, unique: int | None = None) -> Forecast | InTotal | Exact:
        """The forecast, asked in total parameters. `unique`: tokens of the corpus, which counting may have reached."""
        assert self.forecast is not None
        if self.counted:
            whole = [p for r in self.results.values() for p in r.points if p.tokens == unique]
            return Exact(self.forecast, float(whole[0].tokens), whole[0].bpb) if whole else self.forecast
        if self.definition == "total":
            return self.forecast
        total = np.array([r.total for r in self.rungs], np.float64)
        return InTotal(self.forecast, total, np.array([r.count(self.definition) for r in self.rungs], np.float64))

    def candidate(self, frame: Frame) -> Candidate:
        """As the decision wants it."""
        first = min((h for c in self.cells for h in c.horizons), default=1)

        def train(params: float, tokens: float) -> Json:
            return frame.training(self.branch, self.rung(params), first, tokens, self.lr_factor(params, tokens))

        return Candidate(
            name=self.name,
            recipe=self.branch.recipe,
            forecast=self.surface(frame.unique),
            cost=self.large,
            counted=self.counted,
            alive=self.alive,
            passes=self.passes(frame),
            train=train,
        )

    def rows(self) -> list[Json]:
        """The fitted points and what the forecast says of each."""
        if self.forecast is None:
            return []
        total, counted = self.runs("total"), self.runs(self.definition)
        said = self.forecast.predict(counted.params, counted.tokens, unique=counted.unique).loss
        seconds = total.seconds if total.seconds is not None else np.full(len(total), np.nan)
        columns: dict[str, Any] = {
            "params": total.params,
            "tokens": total.tokens,
            "loss": total.loss,
            "seconds": seconds,
            "flops": total.compute,
            "predicted": said,
        }
        return [{k: float(v[i]) for k, v in columns.items()} for i in range(len(total))]


def held_out(made: Forecast) -> float:
    """Root mean square of what the forecast's laws missed beyond the origins inside its table; infinite without any."""
    errors = [row.error for row in made.rolling if row.form == "blend"]
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else float("inf")
