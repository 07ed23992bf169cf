"""Adapters: a trained model changed by a few parameters beside its own, whatever its architecture."""

from __future__ import annotations

from genus.tune.adapters.low_rank import LowRank
from genus.tune.adapters.rewrite import Change, adapted, attach, detach, learning_rows, merge, unmerge
from genus.tune.adapters.targets import matrices, select
from genus.tune.adapters.token_rows import TokenRows

__all__ = [
    "Change",
    "LowRank",
    "TokenRows",
    "adapted",
    "attach",
    "detach",
    "learning_rows",
    "matrices",
    "merge",
    "select",
    "unmerge",
]
