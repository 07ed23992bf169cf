"""How a model reads an example: what a position sees decides where the whole text is read off."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from genus.objectives.objective import Objective
from genus.parts.attention import Attention
from genus.parts.mix import ScalarMix
from genus.parts.model import Model
from genus.parts.task_head import Pool, TaskHead
from genus.spec import walk

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer
    from genus.tune.task import Task

Reads = Literal["past", "all", "source"]


def reads(model: Model) -> Reads:
    """Whether a position sees the text before it, all of the text, or a source text too."""
    if model.encoder is not None:
        return "source"
    return "past" if all(p.causal or p.cross for p in walk(model) if isinstance(p, Attention)) else "all"


def text_head(model: Model, outputs: int, dropout: float = 0.1) -> TaskHead:
    """A read-out of a whole text.

    Where every position sees all of it, from the first, through a layer (Devlin et al. 2019); where a position sees the past,
    from the last (Radford et al. 2018); an encoder-decoder reads the text on both sides, and is read at the decoder's last.
    Of two directions that have each read a part, a mixture of all layers is read, from everywhere (Peters et al. 2018).
    """
    if model.reverse is not None:
        return TaskHead(outputs, Pool("mean", dense=False), dropout=dropout, mix=ScalarMix(model.stack.depth + 1))
    match reads(model):
        case "all":
            return TaskHead(outputs, Pool("first"), dropout=dropout)
        case "past":
            return TaskHead(outputs, Pool("last", dense=False), bias=False)
        case "source":
            return TaskHead(outputs, Pool("last"), dropout=dropout, before=dropout)


def token_head(model: Model, outputs: int, dropout: float = 0.1) -> TaskHead:
    """A read-out of every position."""
    mix = ScalarMix(model.stack.depth + 1) if model.reverse is not None else None
    return TaskHead(outputs, None, dropout=dropout, mix=mix)


def objective_of(task: Task, model: Model, tokenizer: Tokenizer) -> Objective:
    """The task's objective, knowing the ids it needs; an encoder-decoder is given the text on both sides."""
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "vocab": tokenizer.vocab_size}
    objective = task.objective.settle(ids)
    if reads(model) == "source" and "start" in {f.name for f in dataclasses.fields(objective)}:
        objective = objective.replace(start=tokenizer.bos_id)
    return objective
