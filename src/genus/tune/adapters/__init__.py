"""Adapters: a trained model changed by a few parameters beside its own, whatever its architecture."""

from __future__ import annotations

from genus.tune.adapters.low_rank import LowRank
from genus.tune.adapters.rewrite import adapted, attach, detach, merge, unmerge
from genus.tune.adapters.targets import matrices, select

__all__ = ["LowRank", "adapted", "attach", "detach", "matrices", "merge", "select", "unmerge"]
