"""Prepare: from files of any size to memory-mapped token shards with document boundaries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genus.verb import make_callable

if TYPE_CHECKING:
    from genus.prepare.dataset import Dataset
    from genus.prepare.pipeline import prepare

__all__ = ["Dataset", "prepare"]


def __getattr__(name: str) -> Any:
    if name == "prepare":
        from genus.prepare.pipeline import prepare

        return prepare
    if name == "Dataset":
        from genus.prepare.dataset import Dataset

        return Dataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


make_callable(__name__)
