"""A plan that aims at a task: only branches that can learn it may be recommended.

The task is a probe's, or the user's own, told by labelled rows. A small model of every branch learns it, all for the same time;
one that is to be tuned to labels learns from the data first. What reaches nearly the best score qualifies; among those the plan
chooses by bits per byte as always, since that is what can be foretold and checked.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from genus.evaluate.probes import PROBES, probe_score
from genus.plan.contender import Contender
from genus.plan.options import BPB
from genus.report.chart import clock
from genus.spec import nearest

NEARLY = 0.9  # of the best score
PART = 0.2  # of the small runs' time
PRETRAINED = 0.6  # of a branch's time, where it is tuned to labels afterwards
ROWS = 2000  # labelled rows that are used at most
FOLDER = "target"

Say = Callable[[str], None]


class Score(NamedTuple):
    """What a branch reached. subject: the model that did."""

    value: float
    name: str
    subject: str


def check(target: str) -> None:
    """Whether a plan can aim at this.

    Raises:
        ValueError: it cannot; the message says at what it can.
    """
    learnable = [name for name, probe in PROBES.items() if probe.kind == "train"]
    if target == BPB or target in learnable or Path(target).exists():
        return
    if target in PROBES:
        raise ValueError(f"the probe {target!r} reads a trained model; a plan can aim at {BPB} or one of: {', '.join(learnable)}")
    raise ValueError(f"a plan cannot aim at {target!r}, and there is no such file of labels{nearest(target, [BPB, *learnable])}")


def qualify(
    contenders: Sequence[Contender], target: str, data: Path, out: Path, seconds: float, seed: int, say: Say
) -> dict[str, str]:
    """By name, why a contender does not qualify. Nobody is left out where nobody learns the task.

    Args:
        data: prepared, for what is tuned to labels. out: the plan's folder. seconds: for all of them together.

    Raises:
        ValueError: the labels cannot be read.
    """
    alive = [c for c in contenders if c.alive]
    if target == BPB or not alive:
        return {}
    reasons, scores = {}, dict[str, Score]()
    if target not in PROBES:
        reasons = {c.name: "it is counted, and cannot be tuned to labels" for c in alive if c.counted}
    each = seconds / max(1, len(alive) - len(reasons))
    for c in (c for c in alive if c.name not in reasons):
        if target in PROBES:
            result = probe_score(c.branch.recipe, target, each, seed)
            scores[c.name] = Score(result.score, result.score_name, result.subject)
        else:
            tell = say if not scores else _nothing  # what the labels are is said once
            scores[c.name] = tuned(c.branch.recipe, data, target, out / FOLDER / c.name, each, seed, tell)
        score = scores[c.name]
        say(f"{target}: {c.name} reaches {score.value:.3f} ({score.name}) in {clock(each)}, {score.subject}")
    if not scores:
        raise ValueError(f"no branch can be tuned to {target}; plan for a network too, such as --branches ngram,llama")
    leader = max(scores, key=lambda name: scores[name].value)
    best = scores[leader].value
    return reasons | {
        name: f"{target} {score.value:.3f} ({score.name}), and {leader} reaches {best:.3f}"
        for name, score in scores.items()
        if best - score.value > (1 - NEARLY) * abs(best)
    }


def tuned(recipe: str, data: Path, labels: str, folder: Path, seconds: float, seed: int, say: Say) -> Score:
    """A small model that learns from the data, and is then tuned to the labels; judged on rows that it has not learnt from.

    Raises:
        ValueError: the labels cannot be read.
    """
    from genus.train.options import TrainOptions
    from genus.train.start import start
    from genus.tune.judging import judge
    from genus.tune.options import TuneOptions

    shutil.rmtree(folder, ignore_errors=True)  # of a plan that was stopped here
    run = start(recipe, data, folder / "base", TrainOptions(seconds=PRETRAINED * seconds, seed=seed), _nothing)
    task, row = judge(run.path, labels, folder / "tuned", TuneOptions(seeds=1, seed=seed), ROWS, say)
    subject = f"{run.config['parameters']:,} parameters, {row.labels:,.0f} labelled rows"
    return Score(row.mean(task.primary), task.primary, subject)


def _nothing(_: str) -> None:
    """Says nothing."""
