"""Which small runs tell most about the large one: cells in (size, tokens) for a share of the budget.

One warm-up–stable–decay trajectory per size, with a decayed point at each of its horizons. Trajectories are chosen for the lowest
regret expected at the target, by the delta method under several priors: an average V-optimal design (Atkinson and others 2007,
chapter 10; Pronzato and Walter 1985 for the average over priors).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from genus.plan.design.information import FEWEST_SIZES, Menu, Outlook, Rules, Target
from genus.plan.design.prior import PRIORS, Prior
from genus.plan.machine.cost import Cost, affordable

COUNTED_HORIZONS = 6


@dataclass(frozen=True)
class Cell:
    """One trajectory: a model of `params`, decayed after each of `horizons` tokens, rising; seconds of one process."""

    branch: str
    params: float
    horizons: tuple[int, ...]
    seconds: float


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
        budget: seconds for sweep and target together, in the same proportion, that would do; infinite where no time helps.
        fits: branches that the share does pay for, together. reasons: by branch, of those it cannot pay for even alone.
    """

    def __init__(self, message: str, budget: float, fits: tuple[str, ...], reasons: Mapping[str, str]) -> None:
        super().__init__(message)
        self.budget, self.fits, self.reasons = budget, fits, dict(reasons)


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
    rules, targets = rules or Rules(), costs if targets is None else targets
    counts = [
        _counted(name, cost, share_seconds * cores / (2 * len(costs)), rules)
        for name, cost in costs.items()
        if len(cost.sizes) == 1
    ]
    menus = [
        Menu(name, cost, Target(targets[name], target_seconds, priors, rules.unique), share_seconds, priors, cores, rules)
        for name, cost in costs.items()
        if len(cost.sizes) > 1
    ]
    _check(menus, counts, share_seconds, target_seconds, cores)
    fixed, money = sum(c.seconds for c in counts), share_seconds * cores
    chosen = [list(m.least) for m in menus]
    for _ in range(12):  # what is bought for all the money may not fit on the clock: the last cells leave cores idle
        found = _search(menus, money - fixed)
        wall = makespan([*(c.seconds for c in counts), *_prices(menus, found)], cores)
        if wall <= share_seconds:
            chosen = found
            break
        money *= min(0.95, share_seconds / wall)
    cells = [*counts, *(_cell(m, o) for m, options in zip(menus, chosen) for o in options)]
    cells.sort(key=lambda c: c.seconds)
    outlooks = {m.name: m.outlook(m.information(options)) for m, options in zip(menus, chosen)}
    seconds = [c.seconds for c in cells]
    return Design(tuple(cells), float(sum(seconds)), float(makespan(seconds, cores)), cores, outlooks)


def makespan(seconds: Sequence[float], cores: int) -> float:
    """Wall-clock of jobs that are begun cheapest first, each on the first free of `cores`."""
    free = [0.0] * cores
    for job in sorted(seconds):
        free[free.index(min(free))] += job
    return max(free)


def _cell(menu: Menu, option: int) -> Cell:
    horizons = tuple(round(h) for h in menu.horizons[option])
    return Cell(menu.name, float(menu.params[option]), horizons, float(menu.price[option]))


def _prices(menus: Sequence[Menu], chosen: Sequence[Sequence[int]]) -> list[float]:
    return [float(m.price[o]) for m, options in zip(menus, chosen) for o in options]


def _search(menus: Sequence[Menu], money: float) -> list[list[int]]:
    """The options with the lowest summed regret for `money` seconds: a price per second is bisected until they cost that much."""
    best = [list(m.least) for m in menus]
    lowest = _regret(menus, best)
    low, high = math.log(1e-10), math.log(1e2)
    for _ in range(14):
        price = math.exp((low + high) / 2)
        found = [_at_price(m, price) for m in menus]
        if sum(_prices(menus, found)) > money:
            low = math.log(price)
            continue
        high = math.log(price)
        if (regret := _regret(menus, found)) < lowest:
            best, lowest = found, regret
    ends = [_fill(menus, start, money) for start in (best, [list(m.least) for m in menus])]
    return min(ends, key=lambda chosen: _regret(menus, chosen))


def _regret(menus: Sequence[Menu], chosen: Sequence[Sequence[int]]) -> float:
    return float(sum(m.regret(m.information(options)) for m, options in zip(menus, chosen)))


def _at_price(menu: Menu, price: float) -> list[int]:
    """Options, one per size or none, that are locally best for regret + price * seconds: one size is exchanged at a time."""
    chosen = {int(menu.group[o]): o for o in menu.least}
    for _ in range(4):
        before = dict(chosen)
        for size in range(len(menu.sizes)):
            chosen.pop(size, None)
            base = menu.information(list(chosen.values()))
            options = np.flatnonzero(menu.group == size)
            values = menu.regret(base + menu.told[options]) + price * menu.price[options]
            if len(chosen) < FEWEST_SIZES or values.min() < menu.regret(base):
                chosen[size] = int(options[values.argmin()])
        if chosen == before:
            break
    return list(chosen.values())


def _fill(menus: Sequence[Menu], chosen: list[list[int]], money: float) -> list[list[int]]:
    """Spend what is left: add the option, or exchange one for another, that lowers the regret most, while one fits."""
    left = money - sum(_prices(menus, chosen))
    offers = [_offer(m, options, left) for m, options in zip(menus, chosen)]
    while max((gain for gain, _, _ in offers), default=0.0) > 1e-9:
        i = max(range(len(offers)), key=lambda k: offers[k][0])
        _, price, chosen[i] = offers[i]
        left -= price
        for k, (m, options) in enumerate(zip(menus, chosen)):
            if k == i or offers[k][1] > left:
                offers[k] = _offer(m, options, left)
    return chosen


def _offer(menu: Menu, chosen: list[int], left: float) -> tuple[float, float, list[int]]:
    """The largest gain for at most `left` seconds more, its price, and the options that have it."""
    now, best = float(menu.regret(menu.information(chosen))), (0.0, 0.0, chosen)
    for dropped in [None, *chosen]:
        rest = [o for o in chosen if o != dropped]
        price = menu.price - (0.0 if dropped is None else menu.price[dropped])
        options = np.flatnonzero(~np.isin(menu.group, menu.group[rest]) & (price <= left))
        if len(options):
            gains = now - menu.regret(menu.information(rest) + menu.told[options])
            at = int(gains.argmax())
            if gains[at] > best[0]:
                best = float(gains[at]), float(price[options[at]]), [*rest, int(options[at])]
    return best


def _counted(name: str, cost: Cost, money: float, rules: Rules) -> Cell:
    """Points of a counted model at growing shares of the data, each counted anew, the largest as large as `money` allows.

    Where it allows the whole corpus, the last point is no longer a forecast.
    """
    size = float(cost.sizes[0])
    shares = 2.0 ** -np.arange(COUNTED_HORIZONS)[::-1]
    top = float(affordable(cost, size, money)) / shares.sum()
    if rules.unique is not None:
        whole = float(np.sum(cost.seconds(size, np.floor(rules.unique * shares)))) <= money
        top = rules.unique if whole else min(top, rules.unique)
    horizons = tuple(int(top * s) for s in shares)
    return Cell(name, size, horizons, float(np.sum(cost.seconds(size, np.array(horizons)))))


def _check(menus: Sequence[Menu], counts: Sequence[Cell], share_seconds: float, target_seconds: float, cores: int) -> None:
    reasons = {m.name: m.refused for m in menus if m.refused}
    reasons |= {c.branch: "not one token is counted in its part of the time" for c in counts if c.horizons[0] < 1}
    least = {c.branch: [c.seconds] for c in counts}
    least |= {m.name: [float(m.price[o]) for o in m.least] for m in menus if not m.refused}
    fits: list[str] = []
    for name in sorted(set(least) - set(reasons), key=lambda n: (sum(least[n]), n)):
        if makespan([s for other in [*fits, name] for s in least[other]], cores) <= share_seconds:
            fits.append(name)
    if len(fits) == len(menus) + len(counts):
        return
    minimum = (sum(c.seconds for c in counts) + sum(m.smallest for m in menus)) / cores
    budget = max([minimum / share_seconds, *(m.scale for m in menus)]) * (share_seconds + target_seconds)
    count = f"{len(menus) + len(counts)} branches" if len(menus) + len(counts) > 1 else "a branch"
    lines = [f"{share_seconds:.3g} s of small runs are too few for {count}"]
    for reason in dict.fromkeys(reasons.values()):
        lines.append(f"{', '.join(n for n, r in reasons.items() if r == reason)}: {reason}")
    if not reasons:
        lines.append(f"three sizes of each take {minimum:.3g} s")
    if math.isfinite(budget):
        lines.append(f"a budget of about {budget:.3g} s would do for all")
    lines.append(f"this one does for {', '.join(fits)}" if fits else "this one does for none")
    raise ShareTooSmall("; ".join(lines), float(budget), tuple(fits), reasons)
