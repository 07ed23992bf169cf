"""What a position of a model sees decides where a task reads the whole text off."""

from __future__ import annotations

from typing import Literal

from genus.parts.attention import Attention
from genus.parts.model import Model
from genus.parts.task_head import Pool, TaskHead
from genus.spec import walk

Reads = Literal["past", "all", "source"]


def reads(model: Model) -> Reads:
    """Whether a position sees the text before it, all of the text, or a source text too."""
    if model.encoder is not None:
        return "source"
    return "past" if all(p.causal or p.cross for p in walk(model) if isinstance(p, Attention)) else "all"


def text_head(model: Model, outputs: int, dropout: float = 0.1) -> TaskHead:
    """A read-out of a whole text: from its first position through a layer where every position sees all of it (Devlin et al.
    2019), from its last where a position sees the past (Radford et al. 2018)."""
    if reads(model) == "all":
        return TaskHead(outputs, Pool("first"), dropout=dropout)
    return TaskHead(outputs, Pool("last", dense=False), bias=False)


def token_head(model: Model, outputs: int, dropout: float = 0.1) -> TaskHead:
    """A read-out of every position."""
    return TaskHead(outputs, None, dropout=dropout)
