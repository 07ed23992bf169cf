"""What a plan says in words: why this run, what would change the advice, and what may be better than any run.

Every sentence is derived from the forecasts, and says how far apart two figures are where that decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from genus.plan.frontier import Limits, best
from genus.plan.machine.cost import Cost
from genus.plan.store import Choice, Json
from genus.report.chart import chance, clock, short

if TYPE_CHECKING:
    from genus.plan.decide import Candidate, Situation, Standing

LITTLE = 0.002  # of the loss: a gain that is not worth a sentence
CLOSE = 0.03  # of the loss: so near, the cheaper model deserves a thought
PASS_GAIN = 0.005  # of the loss, from twice as many passes: less is not worth the time
PASSES = (1, 2, 4, 8, 16, 32, 64)


def why(winner: Standing, standings: Sequence[Standing], situation: Situation) -> list[str]:
    """Reasons for the recommended run."""
    choice, lines = winner.choice, []
    others = [s for s in standings if s is not winner]
    lowest = choice.loss <= min(s.choice.loss for s in standings)
    if others and lowest:
        figures = ", ".join(f"{s.choice.loss:.3f} {s.candidate.name}" for s in others)
        lines.append(f"the lowest prediction: {choice.loss:.3f}, against {figures}")
    if situation.serve is not None and choice.decode is not None:
        lines.append(
            f"of the runs within 1 % of the lowest loss it takes the least time in a year: {clock(choice.seconds)} to train and "
            f"{clock(365 * situation.serve * choice.decode)} to generate {short(situation.serve)} tokens a day"
        )
    if choice.probability is not None and others:
        lines.append(f"it is the best branch in {chance(choice.probability)} of the futures that fit the small runs")
    optimum = winner.optimum
    if len(winner.candidate.cost.sizes) > 1 and situation.serve is None:
        low, high = (winner.candidate.total(size) for size in (optimum.params_low, optimum.params_high))
        lines.append(f"the best size lies between {short(low)} and {short(high)} parameters (90 %)")
    passes = choice.tokens / situation.unique
    lines.append(f"{short(choice.tokens)} tokens are {_passes(passes)} the corpus of {short(situation.unique)}")
    if situation.price is not None:
        lines.append(f"it costs {_money(choice.seconds, situation.price)} at {situation.price:g} an hour")
    return lines


def would_change(winner: Standing, standings: Sequence[Standing], crossings: Sequence[Json], situation: Situation) -> list[str]:
    """What would make another run the better one."""
    name, lines = winner.candidate.name, []
    crossed = [row for row in crossings if row["middle"] is not None]
    early = (row for row in crossed if row["second"] == name and row["middle"] < situation.seconds)
    late = (row for row in crossed if row["first"] == name and row["middle"] > situation.seconds)
    before = max(early, key=lambda row: row["middle"], default=None)
    after = min(late, key=lambda row: row["middle"], default=None)
    if before is not None:
        lines.append(f"less time: below {_span(before)} {before['first']} is better{_likely(before)}")
    if after is not None:
        lines.append(f"more time: from {_span(after)} on {after['second']} is better{_likely(after)}")
    runner = max((s for s in standings if s is not winner), key=lambda s: s.choice.probability or 0, default=None)
    if runner is not None and (runner.choice.probability or 0) >= 0.05:
        share, other = chance(runner.choice.probability or 0), runner.candidate.name
        gap = (runner.choice.loss - winner.choice.loss) / winner.choice.loss
        overlap = "the intervals overlap" if runner.choice.low <= winner.choice.high else "the intervals do not overlap"
        lines.append(f"luck: {other} is the better branch with {share} ({gap:+.1%} predicted, {overlap})")
    lines += _limits(winner, situation)
    if len(standings) == 1:
        return [*lines, "other branches: none could be compared with it"]
    return lines or [f"nothing within ten times this budget: {name} stays ahead"]


def advice(winner: Standing, standings: Sequence[Standing], situation: Situation) -> list[str]:
    """What may be worth more than the run itself."""
    return [
        *_counting(winner, standings),
        *_base(winner, standings),
        *_data(winner, situation),
        *_passes_that_help(winner, situation),
        *_margin(winner, situation),
    ]


def too_slow(situation: Situation, costs: Sequence[Cost]) -> str:
    """When no model generates as many tokens as are to be served."""
    fastest = min(float(np.min(cost.decode_seconds(cost.sizes))) for cost in costs)
    return (
        f"nothing keeps up with {short(situation.serve or 0)} tokens a day on this machine, one at a time: the fastest model "
        f"generates {short(86400 / fastest)}. The demand was left out of the choice; serve in batches or on more machines"
    )


def _counting(winner: Standing, standings: Sequence[Standing]) -> list[str]:
    counted = min((s for s in standings if s.candidate.counted), key=lambda s: s.choice.loss, default=None)
    if counted is None:
        return []
    own, name = counted.choice, counted.candidate.name
    if counted is winner:
        network = next((s for s in standings if not s.candidate.counted), None)
        rest = ""
        if network is not None:
            rest = f"; the best network, {network.candidate.name}, is predicted at {_interval(network.choice)}"
        return [f"use the {name}: counting takes {clock(own.seconds)} and reaches {own.loss:.3f}{rest}"]
    gap = (own.loss - winner.choice.loss) / winner.choice.loss
    if gap <= CLOSE:
        return [f"the {name} is only {gap:.1%} behind and takes {clock(own.seconds)} instead of {clock(winner.choice.seconds)}"]
    if winner.choice.high >= own.low:
        return [f"the {name} ({own.loss:.3f} after {clock(own.seconds)}) lies inside the interval of {winner.candidate.name}"]
    return []


def _base(winner: Standing, standings: Sequence[Standing]) -> list[str]:
    base = next((s for s in standings if s.candidate.base), None)
    if base is None:
        return []
    if base is winner:
        scratch = next((s for s in standings if not s.candidate.base), None)
        rest = (
            f"; trained from the start, {scratch.candidate.name} is predicted at {_interval(scratch.choice)}" if scratch else ""
        )
        return [f"train {base.candidate.recipe} further instead of a new model: {_interval(base.choice)}{rest}"]
    gap = (base.choice.loss - winner.choice.loss) / winner.choice.loss
    return [f"training {base.candidate.recipe} further does not pay: {_interval(base.choice)}, {gap:+.1%}"]


def _data(winner: Standing, situation: Situation) -> list[str]:
    """Twice the data for the same seconds, against twice the seconds with the same data."""
    candidate, now = winner.candidate, winner.choice.loss
    if candidate.counted:  # of more text than there is the cost knows nothing; the loss follows from the text alone
        twice = 2 * winner.choice.tokens
        data = now - float(candidate.forecast.predict(winner.optimum.params, twice, unique=twice).loss)
        return [f"more data, not more time: twice the text lowers the {candidate.name} by {data:.3f} ({data / now:.1%})"]
    compute = now - _lowest(candidate, replace(situation, seconds=2 * situation.seconds))
    data = now - _lowest(candidate, replace(situation, unique=2 * situation.unique))
    if data > max(compute, LITTLE * now):
        return [
            f"more data would buy more than more compute: twice the text lowers the loss by {data:.3f} ({data / now:.1%}), "
            f"twice the time by {max(compute, 0):.3f} ({max(compute, 0) / now:.1%})"
        ]
    if compute > LITTLE * now:
        more = f", twice the text by {data:.3f}" if data > LITTLE * now else "; more text would not help yet"
        return [f"more compute would help: twice the time lowers the loss by {compute:.3f} ({compute / now:.1%}){more}"]
    return ["neither twice the time nor twice the text would lower the loss by more than 0.2 %"]


def _lowest(candidate: Candidate, situation: Situation) -> float:
    """The lowest predicted loss of the branch in another situation."""
    from genus.plan.decide import limits

    limit = replace(limits(candidate, situation), decode=None)
    return float(best(candidate.forecast, candidate.cost, situation.seconds, **vars(limit)).band.loss)


def _passes_that_help(winner: Standing, situation: Situation) -> list[str]:
    """How often the corpus can be repeated before another doubling gives less than PASS_GAIN."""
    candidate, params = winner.candidate, winner.optimum.params
    if candidate.counted or winner.choice.tokens < 0.5 * situation.unique:
        return []
    passes = [p for p in PASSES if candidate.passes is None or p <= candidate.passes]
    tokens = situation.unique * np.array(passes, np.float64)
    loss = np.asarray(candidate.forecast.predict(params, tokens, unique=np.full(len(tokens), situation.unique)).loss)
    gains = (loss[:-1] - loss[1:]) / loss[:-1]
    last = int(np.argmax(gains < PASS_GAIN)) if (gains < PASS_GAIN).any() else len(gains)
    if last == len(gains):
        return [f"at this size, repeating the corpus helps up to {passes[-1]} passes at least, as far as the small runs can tell"]
    word = "pass helps" if passes[last] == 1 else "passes help"
    return [f"{passes[last]} {word}; going to {passes[last + 1]} lowers the loss by {max(gains[last], 0):.2%} at this size"]


def _limits(winner: Standing, situation: Situation) -> list[str]:
    """What keeps the recommended run from being better."""
    candidate, optimum, lines = winner.candidate, winner.optimum, []
    free = Limits(unique=situation.unique, passes=candidate.passes)
    for name in ("memory", "decode"):
        if name in optimum.limited:
            other = best(candidate.forecast, candidate.cost, situation.seconds, **vars(free))
            gain = (winner.choice.loss - float(other.band.loss)) / winner.choice.loss
            size = f"{short(candidate.total(other.params))} parameters and {gain:.1%} less loss"
            if name == "memory":
                need = float(candidate.cost.memory(other.params)) / 2**30
                lines.append(f"more memory: with {need:.1f} GiB the best size would have {size}")
            else:
                lines.append(f"a smaller demand: without --serve the best size would have {size}")
    for end, word in (("smallest", "smaller"), ("largest", "larger")):
        if f"{end} size" in optimum.limited:
            lines.append(f"{word} sizes: {short(winner.choice.params)} parameters is the {end} that was looked at")
    if "data" in optimum.limited and not candidate.counted:
        lines.append(
            f"more data: the run is kept to {candidate.passes:g} passes over the corpus, all that the small runs can speak for"
        )
    return lines


def _margin(winner: Standing, situation: Situation) -> list[str]:
    if situation.serve is not None or winner.optimum.regret <= LITTLE * winner.choice.loss:
        return []
    regret = winner.optimum.regret / winner.choice.loss
    return [f"the size is uncertain: another one may be better by {regret:.1%} on average (small runs of more sizes would tell)"]


def _span(row: Json) -> str:
    return f"{clock(row['middle'])} ({clock(row['low'])} to {clock(row['high'])})"


def _likely(row: Json) -> str:
    return "" if row["probability"] >= 0.9 else f", which happens in {chance(row['probability'])} of the futures"


def _interval(choice: Choice) -> str:
    return f"{choice.loss:.3f} ({choice.low:.3f} to {choice.high:.3f})"


def _passes(passes: float) -> str:
    return f"{passes:.2g} passes over" if passes >= 1.05 else f"{passes:.0%} of" if passes < 0.95 else "one pass over"


def _money(seconds: float, price: float) -> str:
    return f"{seconds / 3600 * price:.2f}"
