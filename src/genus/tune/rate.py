"""The learning rate of tuning, tried on validation rows: what suits a large model is far too low for a small one."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

from genus.run import Run
from genus.tune.base import Base
from genus.tune.defaults import pace
from genus.tune.methods import Method
from genus.tune.options import TuneOptions
from genus.tune.splits import Split
from genus.tune.task import Say, Task
from genus.tune.trial import WEIGHTS, Held, Trial, folder_name, measure

FACTORS = (1.0, 3.0, 10.0)  # on the rate that is chosen by size; a higher one is tried while the last was clearly better
CLEARLY = 0.5  # over the square root of the validation rows: the largest standard error of a share
ENOUGH = 30  # validation rows; fewer choose by luck
LONG = 1000  # updates of a fit from which trying costs more than it is worth


def tried(
    base: Base,
    task: Task,
    held: Held,
    split: Split,
    method: Method,
    options: TuneOptions,
    run: Run,
    say: Say,
    group: str = "fits",
    keep: bool = False,
) -> TuneOptions:
    """The options with a factor on the learning rate, the best on the validation rows of one split.

    Nothing is tried where the user gives a rate, for fresh weights (their rate is that of training), with few validation rows,
    or where a fit is long. The fit with the chosen factor is that of the split, and is not repeated.

    Args:
        group, keep: as in `measure`, for the fit that is chosen; the others lie beside it.
    """
    valid = len(split.valid) if held.valid is None else len(held.valid)
    steps = pace(base, method, options, max(1, len(split.train)))
    if options.lr or options.rate or base.weights is None or valid < ENOUGH or steps.updates > LONG:
        return options
    found: dict[float, Trial] = {}
    for factor in FACTORS:
        own = replace(options, rate=factor)
        found[factor] = measure(base, task, held, split, method, own, run, _beside(group, factor), keep, quiet=True)
        shown = found[factor].validation.get(task.primary, math.nan)
        say(f"{method.name}: learning rate {steps.lr * factor:.2e}: {task.primary} {shown:.3f} on {valid:,} validation rows")
        if _best(found, task, valid) != factor:
            break
    best = _best(found, task, valid)
    wanted = run.path / group / folder_name(split)
    if not wanted.exists():
        copy = wanted.with_name(f".{wanted.name}.tmp")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run.path / _beside(group, best) / wanted.name, copy)
        copy.rename(wanted)
    for factor in found:
        (run.path / _beside(group, factor) / wanted.name / WEIGHTS).unlink(missing_ok=True)
    return replace(options, rate=best)


def _beside(group: str, factor: float) -> str:
    return f"{group}-rate-{factor:g}"


def _best(found: dict[float, Trial], task: Task, rows: int) -> float:
    """The highest factor of which each was clearly better than the one before."""
    best = FACTORS[0]
    for factor in list(found)[1:]:
        before, now = (found[f].validation.get(task.primary, -math.inf) for f in (best, factor))
        if not now > before + CLEARLY / math.sqrt(rows):  # NaN does not pass
            break
        best = factor
    return best
