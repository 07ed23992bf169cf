"""From what is known of every branch to one run: the best of each within the limits, their ranking, and where the ranking turns.

The rule: the run with the lowest predicted loss. With a number of tokens to serve per day the rule is another one: of the runs
whose predicted loss is within 1 % of the lowest, and whose decoding keeps up with the demand, the one with the least seconds of
training and of a year's decoding together. (Sardana et al. 2024, "Beyond Chinchilla-Optimal", minimise the same sum for a fixed
loss; here the training budget is fixed, so a little loss is given up instead.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genus.plan.crossing import Crossing, crossing, win_probability
from genus.plan.frontier import Frontier, Limits, Optimum, Surface, best, frontier, tradeoff
from genus.plan.machine.cost import Cost, affordable
from genus.plan.store import Choice, Json

REACH = 10.0  # times the budget: as far as crossings are looked for
BELOW = 100.0  # part of the budget from which frontiers begin
POINTS = 49  # of a frontier
CURVE = 24  # points of a predicted curve
NEARLY = 0.01  # of the loss may be given up for cheaper decoding
ISOFLOPS, STEEP = 6, 1.35  # curves, and how far above their lowest loss they are drawn
DAY, YEAR = 86400.0, 365
NEIGHBOURS = {"half": (0.5, 0.35, 0.71), "double": (2.0, 1.41, 2.83)}  # of the recommended size: wanted, least and most ratio


class Known(Surface, Protocol):
    """What is known about a branch, and what the calibration of intervals will want to know of a prediction."""

    def deviation(self, params: ArrayLike, tokens: ArrayLike, unique: ArrayLike | None = None) -> ArrayLike: ...

    def ratio(self, params: ArrayLike, tokens: ArrayLike) -> ArrayLike: ...


@dataclass(frozen=True)
class Candidate:
    """A branch that may be recommended.

    Attributes:
        name: of the branch. recipe: of the run that would be trained (or the model that is trained further).
        forecast, cost: of its loss and of what it takes; sizes counted as both count them.
        counted: estimated by counting: its loss falls with the data, not with the budget.
        base: goes on from a trained model. alive: it may be recommended; a dropped branch only stands beside the others.
        passes: most passes over the corpus; None = any number.
        total: from a size to all parameters. train: from (size, tokens) to `TrainOptions` as JSON.
    """

    name: str
    recipe: str
    forecast: Known
    cost: Cost
    counted: bool = False
    base: bool = False
    alive: bool = True
    passes: float | None = None
    total: Callable[[float], float] = float
    train: Callable[[float, float], Json] = field(default=lambda params, tokens: {})


@dataclass(frozen=True)
class Situation:
    """What the run may take, and what it has.

    Attributes:
        seconds: of training. unique: training tokens of the corpus. memory: bytes. serve: tokens generated per day.
        price: per hour.
    """

    seconds: float
    unique: float
    memory: float | None = None
    serve: float | None = None
    price: float | None = None

    @property
    def decode(self) -> float | None:
        """Most seconds for a generated token, if tokens are generated one after another."""
        return None if self.serve is None else DAY / self.serve


@dataclass(frozen=True)
class Decision:
    """The outcome.

    Attributes:
        recommendation: with its reasons. best: of every branch that can be trained, by name, the lowest loss first.
        alternatives: half and twice the recommended size, for the same seconds.
        frontiers: by branch, then by what is spent: "seconds", "flops", "memory", "decode"; isoflops: curves of every branch that
            has sizes. Both as `plan.json` stores them.
        crossings: between every two branches, as `plan.json` stores them. refused: by name, the reason. advice: sentences.
    """

    recommendation: Choice
    best: dict[str, Choice]
    alternatives: list[Choice]
    frontiers: dict[str, Json]
    isoflops: dict[str, list[Json]]
    crossings: list[Json]
    refused: dict[str, str]
    advice: list[str]


@dataclass(frozen=True)
class Standing:
    """A candidate with its optimum: what the advice is written from."""

    candidate: Candidate
    optimum: Optimum
    choice: Choice
    frontier: Frontier


def decide(candidates: Sequence[Candidate], situation: Situation) -> Decision:
    """Choose.

    Raises:
        ValueError: no branch can be trained; the message has the reason of each.
    """
    from genus.plan import advice

    limited = [(c, limits(c, situation)) for c in candidates]
    optima, refused = _optima(limited, situation)
    notes: list[str] = []
    if not optima and situation.decode is not None:
        limited = [(c, replace(limit, decode=None)) for c, limit in limited]
        optima, refused = _optima(limited, situation)
        notes = [advice.too_slow(situation, [c.cost for c, _ in limited])] if optima else []
    if not any(c.name in optima for c, _ in limited if c.alive):
        raise ValueError("no branch can be trained: " + "; ".join(f"{name}: {reason}" for name, reason in refused.items()))
    fitting = [(c, limit) for c, limit in limited if c.name in optima]
    budgets = _budgets(situation.seconds)
    over = {c.name: frontier(c.forecast, c.cost, budgets, **vars(limit)) for c, limit in fitting}
    chances = win_probability(list(over.values()), situation.seconds)
    lowest = min(float(optima[c.name].band.loss) for c, _ in fitting if c.alive)
    standings = []
    for (c, limit), chance in zip(fitting, chances):
        optimum = optima[c.name]
        if situation.serve is not None:
            optimum = _cheaper_to_serve(c, limit, situation, optimum, lowest)
        standings.append(Standing(c, optimum, _choice(c, optimum.params, optimum.tokens, situation, float(chance)), over[c.name]))
    standings.sort(key=lambda s: s.choice.loss)
    able = [s for s in standings if s.candidate.alive]
    winner = able[0] if situation.serve is None else _cheapest(able, situation, lowest)
    crossings = _crossings(over, situation.seconds)
    chosen = replace(
        winner.choice,
        why=advice.why(winner, standings, situation),
        would_change=advice.would_change(winner, standings, crossings, situation),
    )
    return Decision(
        recommendation=chosen,
        best={s.candidate.name: chosen if s is winner else s.choice for s in standings},
        alternatives=_neighbours(winner, situation),
        frontiers={c.name: _frontiers(c, limit, over[c.name], situation) for c, limit in fitting},
        isoflops={c.name: _isoflops(c, over[c.name], situation) for c, _ in fitting},
        crossings=crossings,
        refused=refused,
        advice=[*notes, *advice.advice(winner, standings, situation)],
    )


def limits(candidate: Candidate, situation: Situation) -> Limits:
    """What bounds the candidate's size and tokens. Counting reads the corpus once."""
    passes = 1.0 if candidate.counted else candidate.passes
    return Limits(situation.memory, situation.decode, situation.unique, passes)


def yearly(choice: Choice, situation: Situation) -> float:
    """Seconds of training and of decoding for a year."""
    return choice.seconds + YEAR * (situation.serve or 0.0) * (choice.decode or 0.0)


def _optima(limited: Sequence[tuple[Candidate, Limits]], situation: Situation) -> tuple[dict[str, Optimum], dict[str, str]]:
    optima, refused = {}, {}
    for c, limit in limited:
        try:
            optima[c.name] = best(c.forecast, c.cost, situation.seconds, **vars(limit))
        except ValueError as error:
            refused[c.name] = str(error)
    return optima, refused


def _budgets(seconds: float) -> NDArray[np.float64]:
    """From a hundredth of the budget to ten times as much, the budget itself among them."""
    budgets = np.geomspace(seconds / BELOW, seconds * REACH, POINTS)
    budgets[np.abs(np.log(budgets / seconds)).argmin()] = seconds
    return budgets


def _choice(
    c: Candidate, params: float, tokens: float, situation: Situation, probability: float | None = None, name: str = ""
) -> Choice:
    def predict(tokens: float) -> tuple[float, float, float]:
        band = c.forecast.predict(params, tokens, unique=min(tokens, situation.unique))
        return float(band.loss), float(band.low), float(band.high)

    loss, low, high = predict(tokens)
    at = np.geomspace(max(tokens / 50, 1.0), tokens, CURVE)
    curve = [dict(zip(("tokens", "bpb", "low", "high"), (float(t), *predict(float(t))))) for t in at]
    return Choice(
        branch=c.name,
        recipe=c.recipe,
        params=c.total(params),
        tokens=float(tokens),
        seconds=float(c.cost.seconds(params, tokens)),
        loss=loss,
        low=low,
        high=high,
        memory=_known(c.cost.memory(params)),
        decode=_known(c.cost.decode_seconds(params)),
        probability=probability,
        options=c.train(params, tokens),
        curve=curve,
        name=name,
        deviation=_known(c.forecast.deviation(params, tokens, min(tokens, situation.unique))),
        ratio=_known(c.forecast.ratio(params, tokens)),
    )


def _known(value: ArrayLike) -> float | None:
    number = float(np.asarray(value))
    return number if math.isfinite(number) and number > 0 else None


def _cheaper_to_serve(c: Candidate, limit: Limits, situation: Situation, optimum: Optimum, lowest: float) -> Optimum:
    """The size that takes the least seconds in a year, of those within NEARLY of the lowest loss of all branches."""
    sizes = limit.sizes(c.cost)
    tokens = np.minimum(affordable(c.cost, sizes, situation.seconds), limit.most_tokens)
    trained = tokens >= 1
    sizes, tokens = sizes[trained], tokens[trained]
    loss = np.asarray(c.forecast.predict(sizes, tokens, unique=np.minimum(tokens, situation.unique)).loss)
    year = c.cost.seconds(sizes, tokens) + YEAR * (situation.serve or 0.0) * c.cost.decode_seconds(sizes)
    near = loss <= (1 + NEARLY) * lowest
    if not near.any():
        return optimum
    i = int(np.where(near, year, np.inf).argmin())
    band = c.forecast.predict(sizes[i], tokens[i], unique=min(tokens[i], situation.unique))
    return replace(optimum, params=float(sizes[i]), tokens=float(tokens[i]), band=band)


def _cheapest(standings: Sequence[Standing], situation: Situation, lowest: float) -> Standing:
    near = [standing for standing in standings if standing.choice.loss <= (1 + NEARLY) * lowest]
    return min(near, key=lambda standing: yearly(standing.choice, situation))


def _neighbours(winner: Standing, situation: Situation) -> list[Choice]:
    """The runs of half and twice the size for the same seconds: what a check of the recommended size is compared with."""
    c = winner.candidate
    totals = np.array([c.total(size) for size in c.cost.sizes])
    found = []
    for word, (wanted, least, most) in NEIGHBOURS.items():
        ratio = totals / winner.choice.params
        fits = np.flatnonzero((ratio >= least) & (ratio <= most))
        if len(fits):
            size = float(c.cost.sizes[fits[np.abs(np.log(ratio[fits] / wanted)).argmin()]])
            tokens = float(np.minimum(affordable(c.cost, size, situation.seconds), limits(c, situation).most_tokens))
            if tokens >= 1:
                found.append(_choice(c, size, tokens, situation, name=f"{c.name}-{word}"))
    return found


def _crossings(over: Mapping[str, Frontier], seconds: float) -> list[Json]:
    """Of every two branches, in the order in which they rule as budgets grow."""
    rows = []
    for first, second in combinations(over, 2):
        found: Crossing | None = crossing(over[first], over[second])
        row = {"first": first, "second": second, "low": None, "middle": None, "high": None, "probability": 0.0}
        if found is not None:
            early, late = (first, second) if found.overtakes else (second, first)
            row |= {"first": early, "second": late, "low": found.low, "middle": found.middle, "high": found.high}
            row["probability"] = found.probability
        rows.append({**row, "reach": REACH * seconds})
    return rows


def _frontiers(c: Candidate, limit: Limits, over: Frontier, situation: Situation) -> Json:
    """Loss against seconds and operations; and, at the budget, against memory and decoding time."""
    found = {"seconds": over}
    low, high = _operations(c, over)
    if high > low > 0:
        found["flops"] = frontier(c.forecast, c.cost, np.geomspace(low, high, POINTS), "flops", **vars(limit))
    if len(c.cost.sizes) > 1:
        for against in ("memory", "decode"):
            found[against] = tradeoff(
                c.forecast, c.cost, situation.seconds, against=against, unique=limit.unique, passes=limit.passes
            )
    names = ("budgets", "params", "tokens", "loss", "low", "high")
    return {by: {name: getattr(curve, name) for name in names} for by, curve in found.items()}


def _operations(c: Candidate, over: Frontier) -> tuple[float, float]:
    """Least and most training operations on the frontier of seconds; zeros where nothing is multiplied."""
    usable = np.isfinite(over.loss)
    flops = np.asarray(c.cost.flops(over.params[usable], over.tokens[usable]))
    return (float(flops.min()), float(flops.max())) if len(flops) else (0.0, 0.0)


def _isoflops(c: Candidate, over: Frontier, situation: Situation) -> list[Json]:
    """Loss of every size for equal operations, from little to what the budget buys."""
    low, high = _operations(c, over)
    if len(c.cost.sizes) < 2 or not high > low > 0:
        return []
    sizes, curves = np.asarray(c.cost.sizes, np.float64), []
    for flops in np.geomspace(low, high / REACH, ISOFLOPS):
        tokens = affordable(c.cost, sizes, flops, "flops")
        trained = tokens >= 1
        loss = np.full(len(sizes), np.inf)
        unique = np.minimum(tokens[trained], situation.unique)
        loss[trained] = c.forecast.predict(sizes[trained], tokens[trained], unique=unique).loss
        shown = loss <= STEEP * loss.min()
        if shown.sum() > 1:
            params = [c.total(size) for size in sizes[shown]]
            curves.append({"flops": float(flops), "params": params, "tokens": tokens[shown], "loss": loss[shown]})
    return curves
