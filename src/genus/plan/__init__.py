"""Plan: which model to train on this data with this budget, measured, written down before the run and checked after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genus.verb import make_callable

if TYPE_CHECKING:
    from genus.plan.options import PlanOptions
    from genus.plan.planning import plan
    from genus.plan.store import Plan

__all__ = ["Plan", "PlanOptions", "plan"]


def __getattr__(name: str) -> Any:
    if name == "plan":
        from genus.plan.planning import plan

        return plan
    if name == "Plan":
        from genus.plan.store import Plan

        return Plan
    if name == "PlanOptions":
        from genus.plan.options import PlanOptions

        return PlanOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


make_callable(__name__)
