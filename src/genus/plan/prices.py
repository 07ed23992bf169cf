"""The contestants with their sizes and what these cost here: the first step of a plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from genus.plan.branches import Branch
from genus.plan.contender import Contender
from genus.plan.frame import Frame
from genus.plan.machine import costs
from genus.plan.machine.calibrate import measure
from genus.plan.machine.cost import SimpleCost
from genus.plan.machine.measured import Calibration, Setting
from genus.report.chart import clock
from genus.train.choose import EFFICIENCY, TOKENS_PER_PARAMETER

SMALLEST, LARGEST = 30_000, 300_000_000  # parameters of a ladder
ABOVE = 20.0  # times the size that 20 tokens per parameter would suggest: the end of a ladder
STEP = 1.25  # between two sizes
LEAST = 10.0  # seconds of a calibration

Say = Callable[[str], None]


def priced(contestants: Sequence[Branch], frame: Frame, seconds: float, workers: int, say: Say) -> list[Contender]:
    """Measure every branch as the small runs will run (one core each, all cores at once) and as the large one will (all cores).

    Args:
        seconds: that the measurements may take together; what the cache knows takes none.
        workers: small runs at once.
    """
    high = ABOVE * math.sqrt(EFFICIENCY * frame.ceiling * frame.train / (6 * TOKENS_PER_PARAMETER))
    share = max(LEAST, seconds / len(contestants) / 2)
    made = []
    for branch in contestants:
        made.append(_priced(branch, frame, share, workers, min(max(high, 4 * SMALLEST), LARGEST), say))
    return made


def _priced(branch: Branch, frame: Frame, seconds: float, workers: int, high: float, say: Say) -> Contender:
    counted = branch.kind == "counted"
    ends: dict[str, Any] = {"low": SMALLEST, "high": int(high), "say": say}
    each = Setting(1, min(workers, frame.cores), frame.context, None if counted else frame.batch)
    whole = replace(each, threads=frame.cores, processes=1)
    try:
        small = measure(branch.name, frame.data, seconds, each, **ends)
        large = small if counted or frame.cores == 1 else measure(branch.name, frame.data, seconds, whole, **ends)
        count = 1 + round(math.log(high / SMALLEST) / math.log(STEP))
        rungs = costs.ladder(branch.recipe, frame.data.vocab_size, frame.context, SMALLEST, high, count, frame.batch)
    except ValueError as error:
        nothing = SimpleCost()
        made = Contender(branch, [], nothing, nothing)
        made.leave("refused", str(error))
        say(f"{branch.name}: {error}")
        return made
    kind = {"eval_tokens": frame.eval_tokens}
    prices = [c.cost(rungs, frame.batch, **kind) for c in (small, large)]  # type: ignore[arg-type]
    made = Contender(branch, rungs, prices[0], prices[1], [small, large])
    say(f"{branch.name}: {_speed(made, small, large)}")
    return made


def _speed(made: Contender, small: Calibration, large: Calibration) -> str:
    """What was measured, in a line."""
    if made.counted:
        tokens = large.tokens
        return f"{clock(float(made.large.seconds(1, tokens)))} to count all {tokens:,} tokens"
    ends = " and ".join(f"{large.cells[i].tokens_per_s:,.0f} tokens/s at {large.cells[i].total:,} parameters" for i in (0, -1))
    errors = [c.time.error for c in (small, large) if math.isfinite(c.time.error)]
    return ends + (f"; the model of time is off by {max(errors):.0%} on sizes that it has not seen" if errors else "")
