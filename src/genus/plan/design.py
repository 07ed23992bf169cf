"""Which small runs tell most about the large one: cells in (size, tokens) for a share of the budget.

One warm-up–stable–decay trajectory per size, with a decayed branch at each of its horizons. Trajectories are chosen so that the
regret expected at the target is lowest, by the delta method under several prior laws: an average V-optimal design (Atkinson and
others 2007, chapter 10; Pronzato and Walter 1985 for the average over priors).

P prior laws, O options (a size with its horizons), 7 parameters (`genus.plan.prior.PARAMETERS`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from genus.plan.cost import Array, Cost, affordable, trajectory_tokens
from genus.plan.prior import PRIORS, SPREAD, Prior

RIVALRY = 0.05  # standard deviation of the difference between two branches' losses, relative
FEWEST_SIZES, FEWEST_HORIZONS = 3, 2
MOST_SIZES = 12  # of a ladder that are looked at
APART = 1.3  # sizes nearer than this are one
COUNTED_HORIZONS = 6
_STEP = math.log(2.0)


@dataclass(frozen=True)
class Rules:
    """Bounds of a sweep.

    Attributes:
        batch_tokens: tokens per update. updates: of the shortest run; below, warm-up is all there is.
        unique: tokens of the corpus; passes: most passes over it in the sweep, used only where the target itself repeats data.
        memory: bytes for all processes together. horizons: most decayed branches per trajectory.
        largest: most operations of a cell, as a share of the target's.
        noise, shared: relative standard deviation of a point, and of what all points of one trajectory have in common.
        evaluation_tokens: that each point is evaluated on.
    """

    batch_tokens: float = 8192
    updates: int = 200
    unique: float | None = None
    passes: float = 8.0
    memory: float | None = None
    horizons: int = 5
    largest: float = 0.1
    noise: float = 0.005
    shared: float = 0.005
    evaluation_tokens: float = 0.0


@dataclass(frozen=True)
class Cell:
    """One trajectory: a model of `params`, decayed after each of `horizons` tokens, rising; seconds of one process."""

    branch: str
    params: float
    horizons: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Outlook:
    """What a branch's cells are expected to tell.

    Attributes:
        target: (params, tokens) of the best model for the budget under the first prior law.
        regret: expected, relative, from recommending the wrong size. error: half of the 90 % interval of the loss at the target,
            relative, the noise of that one run included.
    """

    target: tuple[float, float]
    regret: float
    error: float


@dataclass(frozen=True)
class Design:
    """The cells of a sweep, cheapest first. Iterates over them.

    Attributes:
        seconds: of all cells together. wall: until the last one ends, with `cores` processes.
        outlooks: by branch; a counted branch has none.
    """

    cells: tuple[Cell, ...]
    seconds: float
    wall: float
    cores: int
    outlooks: dict[str, Outlook] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Cell]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)


class ShareTooSmall(ValueError):
    """The sweep's share of the budget does not pay for even the smallest design.

    Attributes:
        needed: wall-clock seconds that all branches need at least; infinite where no time helps.
        fits: branches that the share does pay for, together.
        reasons: by branch, of those that cannot be designed for at any price.
    """

    def __init__(self, message: str, needed: float, fits: tuple[str, ...], reasons: Mapping[str, str]) -> None:
        super().__init__(message)
        self.needed, self.fits, self.reasons = needed, fits, dict(reasons)


def design(
    costs: Mapping[str, Cost],
    share_seconds: float,
    target_seconds: float,
    priors: Sequence[Prior] = PRIORS,
    cores: int = 1,
    *,
    rules: Rules | None = None,
    targets: Mapping[str, Cost] | None = None,
) -> Design:
    """Cells for all branches, within `share_seconds` of wall-clock on `cores` processes of one core each.

    Args:
        costs: by branch, of one process among `cores`. A ladder of one size is a counted model: it gets points at growing shares
            of the data, each counted anew.
        target_seconds: of the run that is to be predicted. targets: its cost, where it is not that of the sweep's processes.

    Raises:
        ShareTooSmall: a branch cannot have three sizes with two horizons each; the message says what would do.
    """
    rules = rules or Rules()
    targets = costs if targets is None else targets
    reasons: dict[str, str] = {}
    problems: list[_Problem] = []
    counted = [name for name, cost in costs.items() if len(cost.sizes) == 1]
    for name, cost in costs.items():
        if name not in counted:
            problem = _Problem(name, cost, targets[name], share_seconds, target_seconds, priors, cores, rules)
            if problem.refused:
                reasons[name] = problem.refused
            problems.append(problem)
    counts = [_counted(name, costs[name], share_seconds * cores / (2 * len(costs)), rules) for name in counted]
    _check(problems, counts, reasons, share_seconds, target_seconds, cores)
    money = share_seconds * cores
    for _ in range(12):
        cells = [*counts, *_search(problems, money - sum(c.seconds for c in counts))]
        wall = makespan([c.seconds for c in cells], cores)
        if wall <= share_seconds * (1 + 1e-9):
            break
        money *= min(0.97, share_seconds / wall)
    else:
        cells = [*counts, *(c for p in problems for c in p.cells(p.least))]
        wall = makespan([c.seconds for c in cells], cores)
    cells.sort(key=lambda c: c.seconds)
    outlooks = {p.name: p.outlook([c for c in cells if c.branch == p.name]) for p in problems}
    return Design(tuple(cells), float(sum(c.seconds for c in cells)), float(wall), cores, outlooks)


def makespan(seconds: Sequence[float], cores: int) -> float:
    """Wall-clock of jobs that are begun cheapest first, each on the first free of `cores`."""
    free = [0.0] * cores
    for job in sorted(seconds):
        first = free.index(min(free))
        free[first] += job
    return max(free)


class _Problem:
    """The options of one branch and what each tells."""

    def __init__(
        self,
        name: str,
        cost: Cost,
        target: Cost,
        share_seconds: float,
        target_seconds: float,
        priors: Sequence[Prior],
        cores: int,
        rules: Rules,
    ) -> None:
        self.name, self.cost, self.rules, self.priors = name, cost, rules, priors
        self._aim(target, target_seconds)
        most_tokens = np.inf
        if rules.unique is not None:
            most_tokens = rules.unique * (rules.passes if self.target[1] > rules.unique else 1.0)
        most_flops = rules.largest * float(target.flops(*self.target))
        self.refused, self.params, self.horizons, self.seconds, self.size = "", [], [], [], []  # by option
        least = rules.batch_tokens * rules.updates
        allowed = np.asarray(cost.sizes, np.float64)
        if rules.memory is not None:
            allowed = allowed[cost.memory(allowed) * cores <= rules.memory]
        shortest = np.array([least, 2 * least])
        flops, seconds = cost.flops(allowed, 2 * least), np.array([self._seconds(n, shortest) for n in allowed])
        fits = (flops <= most_flops) & (seconds <= share_seconds)
        if 2 * least > most_tokens:
            fits[:] = False
        sizes = _spaced(allowed[fits])
        self.smallest = float(np.sort(seconds)[:FEWEST_SIZES].sum()) if len(allowed) >= FEWEST_SIZES else math.inf
        if len(sizes) < FEWEST_SIZES:
            self.refused = self._why(allowed, flops > most_flops, 2 * least > most_tokens, share_seconds)
            return
        for i, n in enumerate(sizes):
            for top in least * 2.0 ** (0.5 * np.arange(2, 60)):
                for count in sorted({FEWEST_HORIZONS, 3, rules.horizons}):
                    horizons = top * 2.0 ** -np.arange(count)[::-1]
                    cost_of = self._seconds(n, horizons)
                    fit = top <= most_tokens and cost_of <= share_seconds and float(cost.flops(n, top)) <= most_flops
                    if fit and horizons[0] >= 0.999 * least:
                        self.params.append(float(n))
                        self.horizons.append(horizons)
                        self.seconds.append(cost_of)
                        self.size.append(i)
        self.sizes = sizes
        self.price = np.array(self.seconds)
        self.group = np.array(self.size)
        self.told = np.stack([self._told(n, h) for n, h in zip(self.params, self.horizons)])  # (O, P, 7, 7)
        cheapest = [int(np.flatnonzero(self.group == i)[self.price[self.group == i].argmin()]) for i in range(len(sizes))]
        self.least = sorted(cheapest, key=lambda o: self.price[o])[:FEWEST_SIZES]
        self.smallest = float(self.price[self.least].sum())

    def cells(self, chosen: Sequence[int]) -> list[Cell]:
        return [Cell(self.name, self.params[o], tuple(round(h) for h in self.horizons[o]), float(self.price[o])) for o in chosen]

    def information(self, chosen: Sequence[int]) -> Array:
        """(P, 7, 7) of the prior and the chosen options."""
        told: Array = np.diag(SPREAD**-2.0) + self.told[list(chosen)].sum(0)
        return told

    def regret(self, information: Array) -> Array:
        """(...) expected relative regret: of the size, and of the choice between branches; information (..., P, 7, 7)."""
        result: Array = np.einsum("...ij,...ji->...", np.linalg.inv(information), self.weight).mean(-1)
        return result

    def outlook(self, cells: Sequence[Cell]) -> Outlook:
        told = np.diag(SPREAD**-2.0) + sum(self._told(c.params, np.array(c.horizons, np.float64)) for c in cells)
        spread = np.linalg.inv(told)
        size = np.einsum("pij,pij->p", spread, self.size_weight).mean()
        variance = np.einsum("pij,pi,pj->p", spread, self.slope, self.slope).mean()
        noise = self.rules.noise**2 + self.rules.shared**2
        return Outlook(self.target, float(size), float(1.645 * math.sqrt(variance + noise)))

    def _aim(self, cost: Cost, seconds: float) -> None:
        """The target under each prior, and how much each direction of ignorance costs there."""
        ladder = np.asarray(cost.sizes, np.float64)
        unique = self.rules.unique
        tokens = np.maximum(affordable(cost, ladder, seconds), 1.0)
        low, high = np.log(ladder[[0, -1]])
        inner = (low + _STEP, high - _STEP) if high - low > 2 * _STEP else ((low + high) / 2,) * 2
        slopes, sizes, targets = [], [], []
        for prior in self.priors:
            best = int(np.argmin(prior.predict(ladder, tokens, unique)))
            targets.append((float(ladder[best]), float(tokens[best])))
            middle = np.clip(np.log(ladder[best]), *inner)
            near = np.exp(middle + _STEP * np.array([-1.0, 0.0, 1.0]))
            reach = np.maximum(affordable(cost, near, seconds), 1.0)
            loss = np.log(prior.predict(near, reach, unique))
            curvature = max((loss[0] + loss[2] - 2 * loss[1]) / _STEP**2, 0.005)
            jacobian = prior.jacobian(near, reach, unique)
            turn = (jacobian[2] - jacobian[0]) / (2 * _STEP)
            slopes.append(prior.jacobian(*targets[-1], unique))
            sizes.append(np.outer(turn, turn) / (2 * curvature))
        self.target = targets[0]
        self.slope, self.size_weight = np.stack(slopes), np.stack(sizes)
        # Two branches differ by N(0, RIVALRY²), the difference is known up to N(0, s²), s << RIVALRY: choosing the one that looks
        # better loses sqrt(2 / pi) s² / (2 RIVALRY) on average, and s² adds up over the two.
        rivalry = math.sqrt(2 / math.pi) / (2 * RIVALRY)
        self.weight = self.size_weight + rivalry * self.slope[:, :, None] * self.slope[:, None, :]

    def _told(self, params: float, horizons: Array) -> Array:
        """(P, 7, 7) information of a trajectory whose points share an error."""
        noise, shared, k = self.rules.noise**2, self.rules.shared**2, len(horizons)
        rows = np.stack([p.jacobian(params, horizons, self.rules.unique) for p in self.priors])  # (P, k, 7)
        total = rows.sum(1)
        result: Array = (
            rows.transpose(0, 2, 1) @ rows - shared / (noise + k * shared) * total[:, :, None] * total[:, None, :]
        ) / noise
        return result

    def _seconds(self, params: float, horizons: Array) -> float:
        evaluated = len(horizons) * self.rules.evaluation_tokens / 3  # forward only
        return float(self.cost.seconds(params, trajectory_tokens(horizons) + evaluated))

    def _why(self, allowed: Array, heavy: NDArray[np.bool_], short: bool, share_seconds: float) -> str:
        least = self.rules.batch_tokens * self.rules.updates
        shortest = f"the shortest useful trajectory ({2 * least:,.0f} tokens, {self.rules.updates} updates at its first point)"
        if len(allowed) < FEWEST_SIZES:
            return f"{self.name} has {len(allowed)} sizes that fit in memory, and {FEWEST_SIZES} are needed"
        if short:
            return f"{self.name}: {shortest} is more than the corpus holds; bring more text or use smaller batches"
        if np.sum(~heavy) < FEWEST_SIZES:
            return (
                f"{self.name}: {shortest} costs more than {self.rules.largest:.0%} of the target at all but "
                f"{int(np.sum(~heavy))} sizes, so there would be nothing to predict; allow a larger budget or smaller batches"
            )
        return f"{self.name}: {shortest} of three sizes takes {self.smallest:.3g} s, the share is {share_seconds:.3g} s"


def _search(problems: Sequence[_Problem], money: float) -> list[Cell]:
    """The cells with the lowest summed regret for `money` seconds: a price per second is bisected until they cost that much."""
    if not problems:
        return []
    best = [list(p.least) for p in problems]
    lowest = _regret(problems, best)
    low, high = math.log(1e-12), math.log(1e3)
    for _ in range(16):
        price = math.exp((low + high) / 2)
        chosen = [_at_price(p, price) for p in problems]
        if sum(p.price[c].sum() for p, c in zip(problems, chosen)) <= money:
            high = math.log(price)
            if (regret := _regret(problems, chosen)) < lowest:
                best, lowest = chosen, regret
        else:
            low = math.log(price)
    best = _fill(problems, best, money)
    return [cell for p, c in zip(problems, best) for cell in p.cells(c)]


def _regret(problems: Sequence[_Problem], chosen: Sequence[Sequence[int]]) -> float:
    return float(sum(p.regret(p.information(c)) for p, c in zip(problems, chosen)))


def _at_price(problem: _Problem, price: float) -> list[int]:
    """Options, one per size or none, that are locally best for regret + price * seconds: one size is exchanged at a time."""
    chosen = {int(problem.group[o]): o for o in problem.least}
    for _ in range(4):
        before = dict(chosen)
        for size in range(len(problem.sizes)):
            rest = [o for s, o in chosen.items() if s != size]
            base = problem.information(rest)
            options = np.flatnonzero(problem.group == size)
            values = problem.regret(base + problem.told[options]) + price * problem.price[options]
            chosen.pop(size, None)
            if len(rest) < FEWEST_SIZES or values.min() < problem.regret(base):
                chosen[size] = int(options[values.argmin()])
        if chosen == before:
            break
    return list(chosen.values())


def _fill(problems: Sequence[_Problem], chosen: list[list[int]], money: float) -> list[list[int]]:
    """Spend what is left: the exchange of one size's horizons, or a new size, that lowers the regret most, while one fits."""
    left = money - sum(p.price[c].sum() for p, c in zip(problems, chosen))
    for _ in range(40):
        best: tuple[float, int, list[int]] | None = None
        for i, p in enumerate(problems):
            now = p.regret(p.information(chosen[i]))
            for size in range(len(p.sizes)):
                rest = [o for o in chosen[i] if p.group[o] != size]
                options = np.flatnonzero((p.group == size) & (p.price <= left + p.price[chosen[i]].sum() - p.price[rest].sum()))
                if len(options):
                    gains = now - p.regret(p.information(rest) + p.told[options])
                    at = int(gains.argmax())
                    if gains[at] > 1e-9 and (best is None or gains[at] > best[0]):
                        best = float(gains[at]), i, [*rest, int(options[at])]
        if best is None:
            break
        _, i, new = best
        left += problems[i].price[chosen[i]].sum() - problems[i].price[new].sum()
        chosen[i] = new
    return chosen


def _counted(name: str, cost: Cost, money: float, rules: Rules) -> Cell:
    """Points of a counted model at growing shares of the data, each counted anew, the largest as large as `money` allows."""
    size = float(cost.sizes[0])
    shares = 2.0 ** -np.arange(COUNTED_HORIZONS)[::-1]
    top = float(affordable(cost, size, money)) / shares.sum()
    if rules.unique is not None:
        top = min(top, rules.unique)
    horizons = tuple(int(top * s) for s in shares)
    return Cell(name, size, horizons, float(np.sum(cost.seconds(size, np.array(horizons)))))


def _check(
    problems: Sequence[_Problem],
    counts: Sequence[Cell],
    reasons: Mapping[str, str],
    share_seconds: float,
    target_seconds: float,
    cores: int,
) -> None:
    least = {c.branch: [c.seconds] for c in counts} | {
        p.name: [math.inf] if p.refused else [float(p.price[o]) for o in p.least] for p in problems
    }
    empty = {c.branch: "it cannot count a single token in its part of the time" for c in counts if c.horizons[0] < 1}
    if not reasons and not empty and makespan([s for seconds in least.values() for s in seconds], cores) <= share_seconds:
        return
    fits: list[str] = []
    for name in sorted(set(least) - set(reasons) - set(empty), key=lambda n: sum(least[n])):
        if makespan([s for n in [*fits, name] for s in least[n]], cores) <= share_seconds:
            fits.append(name)
    needed = max(sum(c.seconds for c in counts) / cores + sum(p.smallest for p in problems) / cores, 0.0)
    message = [f"a share of {share_seconds:.3g} s for the small runs is too little for {len(least)} branches"]
    message += [f"{name}: {reason}" if name not in reason else reason for name, reason in {**reasons, **empty}.items()]
    if math.isfinite(needed) and needed > share_seconds:
        total = needed * (1 + target_seconds / share_seconds)
        message.append(f"three sizes of each branch take {needed:.3g} s, a budget of {total:.3g} s at the same share")
    message.append(f"enough for: {', '.join(fits)}" if fits else "enough for no branch")
    raise ShareTooSmall("; ".join(message), needed, tuple(fits), {**reasons, **empty})


def _spaced(sizes: Array) -> Array:
    """At most MOST_SIZES of them, a factor APART or more from each other, spread evenly by logarithm."""
    if len(sizes) > MOST_SIZES:
        wanted = np.linspace(math.log(sizes[0]), math.log(sizes[-1]), MOST_SIZES)
        sizes = sizes[np.unique(np.abs(np.log(sizes)[:, None] - wanted).argmin(0))]
    kept: list[float] = []
    for size in sizes:
        if not kept or size >= APART * kept[-1]:
            kept.append(float(size))
    return np.array(kept)
