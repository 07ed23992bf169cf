"""What a trajectory of a small model tells about a large one, and what it costs: the menu from which a sweep is designed.

P prior laws, O options (a size with its horizons), k horizons, 7 parameters of a law (`genus.plan.design.prior.PARAMETERS`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genus.plan.design.prior import SPREAD, Prior
from genus.plan.machine.cost import Array, Cost, affordable, trajectory_tokens

RIVALRY = 0.05  # standard deviation of the difference between two branches' losses, relative
FEWEST_SIZES, FEWEST_HORIZONS = 3, 2
MOST_SIZES = 12  # of a ladder that are looked at
DWARF = 0.1  # relative error of the law for each e-fold of size below the smallest that it holds for
APART = 1.3  # sizes nearer than this are one
_STEP = math.log(2.0)


@dataclass(frozen=True)
class Rules:
    """Bounds of a sweep, and how far its points may be off.

    Attributes:
        batch_tokens: tokens per update. updates: of the shortest run; below, warm-up is all there is.
        unique: tokens of the corpus; passes: most passes over it in the sweep, used only where the target itself repeats data.
        memory: bytes for all processes together. horizons: most decayed points per trajectory.
        largest: most operations of a cell, as a share of the target's.
        smallest: share of the parameters expected to be best at the target, below which models say ever less: their heads and
            layers are too few for the same law.
        evaluation_tokens: that each point is evaluated on.
        noise, shared: relative standard deviation of a point, and of what all points of one trajectory have in common.
        misfit: relative error of the law itself for each factor of ten in operations between a point and the target. Without it a
            design goes to the corners, where no law of this kind holds.
    """

    batch_tokens: float = 8192
    updates: int = 200
    unique: float | None = None
    passes: float = 8.0
    memory: float | None = None
    horizons: int = 5
    largest: float = 0.1
    smallest: float = 1 / 12
    evaluation_tokens: float = 0.0
    noise: float = 0.005
    shared: float = 0.005
    misfit: float = 0.02

    @property
    def shortest(self) -> Array:
        """Horizons of the smallest trajectory that says anything about its length."""
        horizons: Array = self.batch_tokens * self.updates * 2.0 ** np.arange(FEWEST_HORIZONS, dtype=np.float64)
        return horizons


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


class Target:
    """The best model for the budget under each prior law, and what each direction of ignorance costs there.

    slope: (P, 7) of its log loss. size_weight: (P, 7, 7): with the covariance S of the parameters, trace(S @ size_weight) is the
    expected relative regret of recommending a size. weight: the same with the regret of choosing between branches.
    """

    def __init__(self, cost: Cost, seconds: float, priors: Sequence[Prior], unique: float | None) -> None:
        ladder = np.asarray(cost.sizes, np.float64)
        tokens = np.maximum(affordable(cost, ladder, seconds), 1.0)
        low, high = np.log(ladder[[0, -1]])
        inner = (low + _STEP, high - _STEP) if high - low > 2 * _STEP else ((low + high) / 2,) * 2
        slopes, sizes, optima = [], [], []
        for prior in priors:
            best = int(np.argmin(prior.predict(ladder, tokens, unique)))
            optima.append((float(ladder[best]), float(tokens[best])))
            near = np.exp(np.clip(np.log(ladder[best]), *inner) + _STEP * np.array([-1.0, 0.0, 1.0]))
            reach = np.maximum(affordable(cost, near, seconds), 1.0)
            loss, jacobian = np.log(prior.predict(near, reach, unique)), prior.jacobian(near, reach, unique)
            curvature = max((loss[0] + loss[2] - 2 * loss[1]) / _STEP**2, 0.005)  # along the budget, by log size
            turn = (jacobian[2] - jacobian[0]) / (2 * _STEP)
            slopes.append(prior.jacobian(*optima[-1], unique))
            sizes.append(np.outer(turn, turn) / (2 * curvature))
        self.params, self.tokens = optima[0]
        self.flops = float(cost.flops(self.params, self.tokens))
        self.slope, self.size_weight = np.stack(slopes), np.stack(sizes)
        # Two branches differ by N(0, RIVALRY²), the difference is known up to N(0, s²), s << RIVALRY: choosing the one that looks
        # better loses sqrt(2 / pi) s² / (2 RIVALRY) on average, and s² adds up over the two.
        rivalry = math.sqrt(2 / math.pi) / (2 * RIVALRY)
        self.weight = self.size_weight + rivalry * self.slope[:, :, None] * self.slope[:, None, :]


class Menu:
    """The options of one branch.

    Attributes:
        sizes: that may be trained. params (O,), group (O,: index of its size), horizons: by option; price: (O,) seconds.
        told: (O, P, 7, 7) information. least: options of the smallest design.
        refused: why there are no options; "" = there are. smallest: seconds of three sizes' shortest trajectories.
        scale: times the budget from which the shortest trajectories are small beside the target, at three sizes.
    """

    def __init__(
        self, name: str, cost: Cost, target: Target, share_seconds: float, priors: Sequence[Prior], cores: int, rules: Rules
    ) -> None:
        self.name, self.cost, self.target, self.rules, self.priors = name, cost, target, rules, priors
        repeats = rules.passes if rules.unique is not None and target.tokens > rules.unique else 1.0
        most_tokens = np.inf if rules.unique is None else rules.unique * repeats
        most_flops = rules.largest * target.flops
        allowed = np.asarray(cost.sizes, np.float64)
        if rules.memory is not None:
            allowed = allowed[cost.memory(allowed) * cores <= rules.memory]
        shortest = rules.shortest
        share = cost.flops(allowed, shortest[-1]) / most_flops
        seconds = np.array([self._seconds(n, shortest) for n in allowed])
        few = len(allowed) < FEWEST_SIZES
        self.smallest = math.inf if few else float(np.sort(seconds)[:FEWEST_SIZES].sum())
        self.scale = math.inf if few or shortest[-1] > most_tokens else max(float(np.sort(share)[FEWEST_SIZES - 1]), 1.0)
        self.sizes = _spaced(allowed[(share <= 1) & (seconds <= share_seconds)]) if shortest[-1] <= most_tokens else np.empty(0)
        self.refused = self._refusal(len(allowed), share <= 1, most_tokens) if len(self.sizes) < FEWEST_SIZES else ""
        if self.refused:
            return
        params, group, price = [], [], []
        self.horizons: list[Array] = []
        for i, n in enumerate(self.sizes):
            for top in shortest[0] * 2.0 ** (0.5 * np.arange(2, 60)):
                if top > most_tokens or float(cost.flops(n, top)) > most_flops:
                    break
                for count in sorted({FEWEST_HORIZONS, 3, rules.horizons}):
                    horizons = top * 2.0 ** -np.arange(count)[::-1]
                    cost_of = self._seconds(n, horizons)
                    if cost_of <= share_seconds and horizons[0] >= 0.999 * shortest[0]:
                        params.append(float(n))
                        group.append(i)
                        price.append(cost_of)
                        self.horizons.append(horizons)
        self.params, self.group, self.price = np.array(params), np.array(group), np.array(price)
        self.told = np.stack([self.tells(n, h) for n, h in zip(params, self.horizons)])
        cheapest = [int(np.flatnonzero(self.group == i)[self.price[self.group == i].argmin()]) for i in range(len(self.sizes))]
        self.least = sorted(cheapest, key=lambda o: self.price[o])[:FEWEST_SIZES]

    def information(self, chosen: Sequence[int]) -> Array:
        """(P, 7, 7) of the prior and the chosen options."""
        told: Array = np.diag(SPREAD**-2.0) + self.told[list(chosen)].sum(0)
        return told

    def regret(self, information: Array) -> Array:
        """(...) expected relative regret of size and branch, over the priors; information (..., P, 7, 7)."""
        result: Array = np.einsum("...ij,...ji->...", np.linalg.inv(information), self.target.weight).mean(-1)
        return result

    def outlook(self, information: Array) -> Outlook:
        covariance = np.linalg.inv(information)
        size = np.einsum("pij,pji->p", covariance, self.target.size_weight).mean()
        variance = np.einsum("pij,pi,pj->p", covariance, self.target.slope, self.target.slope).mean()
        noise = self.rules.noise**2 + self.rules.shared**2
        return Outlook((self.target.params, self.target.tokens), float(size), float(1.645 * math.sqrt(variance + noise)))

    def tells(self, params: float, horizons: Array) -> Array:
        """(P, 7, 7) information of a trajectory, whose points share an error."""
        rules, shared = self.rules, self.rules.shared**2
        away = np.maximum(np.log10(self.target.flops / self.cost.flops(params, horizons)), 0)
        dwarf = DWARF * max(math.log(rules.smallest * self.target.params / params), 0.0)
        weight = 1 / (rules.noise**2 + (rules.misfit * away) ** 2 + dwarf**2)  # (k,)
        rows = np.stack([p.jacobian(params, horizons, rules.unique) for p in self.priors])  # (P, k, 7)
        total = weight @ rows
        lost = shared / (1 + shared * weight.sum())  # Sherman–Morrison
        result: Array = (rows * weight[:, None]).transpose(0, 2, 1) @ rows - lost * total[:, :, None] * total[:, None, :]
        return result

    def _seconds(self, params: float, horizons: Array) -> float:
        evaluated = len(horizons) * self.rules.evaluation_tokens / 3  # forward only
        return float(self.cost.seconds(params, trajectory_tokens(horizons) + evaluated))

    def _refusal(self, allowed: int, light: NDArray[np.bool_], most_tokens: float) -> str:
        tokens = self.rules.shortest[-1]
        shortest = f"the shortest useful run ({tokens:,.0f} tokens: {FEWEST_HORIZONS} x {self.rules.updates} updates)"
        if allowed < FEWEST_SIZES:
            return f"{allowed} sizes fit in memory, and {FEWEST_SIZES} are needed; allow more memory or fewer processes"
        if tokens > most_tokens:
            return f"{shortest} is longer than the corpus; bring more text or use smaller batches"
        if light.sum() < FEWEST_SIZES:
            sizes = f"all but {light.sum()} sizes" if light.any() else "every size"
            return (
                f"{shortest} takes more than {self.rules.largest:.0%} of the target's operations at {sizes}, "
                "so there would be little left to predict; allow a larger budget or smaller batches"
            )
        return f"{shortest} at each of three sizes does not end in time"


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
