"""A plan that aims at a probe: only branches that can learn the probe's task may be recommended.

The task is learnt by a small model of every branch, all for the same time. What reaches nearly the best score qualifies; among
those the plan chooses by bits per byte as always, since that is what can be foretold and checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from genus.evaluate.probes import PROBES, probe_score
from genus.plan.contender import Contender
from genus.plan.options import BPB
from genus.report.chart import clock
from genus.spec import nearest

NEARLY = 0.9  # of the best score
PART = 0.2  # of the small runs' time

Say = Callable[[str], None]


def check(target: str) -> None:
    """Whether a plan can aim at this.

    Raises:
        ValueError: it cannot; the message says at what it can.
    """
    learnable = [name for name, probe in PROBES.items() if probe.kind == "train"]
    if target == BPB or target in learnable:
        return
    if target in PROBES:
        raise ValueError(f"the probe {target!r} reads a trained model; a plan can aim at {BPB} or one of: {', '.join(learnable)}")
    raise ValueError(f"a plan cannot aim at {target!r}{nearest(target, [BPB, *learnable])}")


def qualify(contenders: Sequence[Contender], target: str, seconds: float, seed: int, say: Say) -> dict[str, str]:
    """By name, why a contender does not qualify. Nobody is left out where nobody learns the task.

    Args:
        seconds: for all of them together.
    """
    alive = [c for c in contenders if c.alive]
    if target == BPB or not alive:
        return {}
    each = seconds / len(alive)
    scores, metric = {}, ""
    for c in alive:
        result = probe_score(c.branch.recipe, target, each, seed)
        scores[c.name], metric = result.score, result.score_name
        say(f"{target}: {c.name} reaches {result.score:.3f} ({metric}) in {clock(each)}, {result.subject}")
    leader = max(scores, key=lambda name: scores[name])
    least = NEARLY * scores[leader]
    return {
        name: f"{target} {score:.3f} ({metric}), and {leader} reaches {scores[leader]:.3f}"
        for name, score in scores.items()
        if score < least
    }
