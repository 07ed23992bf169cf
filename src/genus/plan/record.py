"""A finished comparison in the form in which it is written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from genus.plan.contender import Contender
from genus.plan.decide import Decision
from genus.plan.forecast.exact import Exact
from genus.plan.frame import Frame
from genus.plan.store import Branch, Json, Plan
from genus.train.machine import describe


def recorded(contenders: Sequence[Contender], frame: Frame, decision: Decision, took: float) -> Plan:
    """The plan.

    Args:
        took: seconds of the small runs, calibration included.
    """
    split = frame.data.split("train")
    leader = next(c for c in contenders if c.name == decision.recommendation.branch)
    assert leader.forecast is not None
    return Plan(
        data={
            "path": str(Path(frame.data.root).resolve()),
            "fingerprint": frame.data.fingerprint,
            "tokens": split.tokens,
            "bytes": split.bytes,
            "bytes_per_token": split.bytes / max(1, split.tokens),
            "vocab": frame.data.vocab_size,
        },
        options=frame.options,
        budget={"seconds": frame.seconds, "sweep": took, "train": frame.train, "eval_tokens": frame.eval_tokens},
        machine=describe(),
        branches={c.name: _branch(c, frame, decision) for c in contenders},
        recommendation=decision.recommendation,
        alternatives=decision.alternatives,
        crossings=decision.crossings,
        advice=decision.advice,
        identifiability={c.name: c.identifiability for c in contenders if c.identifiability},
        rolling=[{"branch": c.name, **row.to_json()} for c in contenders if c.forecast is not None for row in c.forecast.rolling],
        coverage=leader.forecast.coverage,
        warnings=_warnings(contenders, frame, decision),
    )


def _branch(c: Contender, frame: Frame, decision: Decision) -> Branch:
    found = Branch(
        recipe=c.branch.recipe,
        status=c.status,
        reason=c.reason if not c.alive else decision.refused.get(c.name, ""),
        trials=[r.to_json() for r in c.results.values()],
        ladder=_ladder(c),
    )
    if c.forecast is None:
        return found
    return replace(
        found,
        best=decision.best.get(c.name),
        frontier=decision.frontiers.get(c.name, {}),
        isoflop=decision.isoflops.get(c.name, []),
        rows=c.rows(),
        cost=c.large.to_json(),  # type: ignore[attr-defined]
        forecast={**c.forecast.to_json(), "definition": c.definition, "lr_factors": {} if c.check is None else c.check.factors},
    )


def _ladder(c: Contender) -> list[Json]:
    """What each size costs."""
    if c.counted:
        size = float(c.large.sizes[0])
        return [{"total": size, "memory": float(c.large.memory(size)), "decode": float(c.large.decode_seconds(size))}]
    return [
        {
            "total": rung.total,
            "non_embedding": rung.non_embedding,
            "effective": rung.effective,
            "flops": rung.training,
            "tokens_per_s": float(c.large.tokens_per_s(rung.total)),  # type: ignore[attr-defined]
            "memory": float(c.large.memory(rung.total)),
            "decode": float(c.large.decode_seconds(rung.total)),
        }
        for rung in c.rungs
    ]


def _warnings(contenders: Sequence[Contender], frame: Frame, decision: Decision) -> list[str]:
    """Of the branches that may be chosen, the recommended one's first."""
    first = decision.recommendation.branch
    found: list[str] = []
    for c in sorted(contenders, key=lambda c: c.name != first):
        if c.forecast is not None and c.alive:
            measured = isinstance(c.surface(frame.unique), Exact)
            found += [f"{c.name}: {text}" for text in c.forecast.warnings if not measured]
            found += c.check.notes if c.check is not None and c.check.edge else []
    disturbed = [c.name for c in contenders if any(calibration.warnings for calibration in c.calibrations)]
    if disturbed:
        found.append(f"times may be off: {', '.join(disturbed)} could not be timed undisturbed, or at all sizes")
    return found
