"""How a model reads an example: what a position sees decides where the whole text is read off."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from genus.export.families import text_pool
from genus.objectives.labelled import Labelled
from genus.objectives.objective import Objective
from genus.parts.attention import Attention
from genus.parts.mix import ScalarMix
from genus.parts.model import Model
from genus.parts.task_head import Pool, TaskHead, Vectors
from genus.spec import walk
from genus.train.machine import default_device

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer
    from genus.tune.task import Task

Reads = Literal["past", "all", "source"]
ACTIVATIONS = 256 * 2**20  # bytes of one block's inner activations: decides how much one forward pass reads


def reads(model: Model) -> Reads:
    """Whether a position sees the text before it, all of the text, or a source text too."""
    if model.encoder is not None:
        return "source"
    return "past" if all(p.causal or p.cross for p in walk(model) if isinstance(p, Attention)) else "all"


def text_head(model: Model, outputs: int, dropout: float = 0.1) -> TaskHead:
    """A read-out of a whole text.

    By the pool that the model states or was tuned with; else, where every position sees all of it, from the first, through a
    layer (Devlin et al. 2019), and where a position sees the past, from the last (Radford et al. 2018). An encoder-decoder reads
    the text on both sides, and is read at the decoder's last.
    Of two directions that have each read a part, a mixture of all layers is read, from everywhere (Peters et al. 2018).
    """
    if model.reverse is not None:
        return TaskHead(outputs, Pool("mean", dense=False), dropout=dropout, mix=ScalarMix(model.stack.depth + 1))
    match reads(model):
        case "all":
            return TaskHead(outputs, _pool(model) or text_pool(model) or Pool("first"), dropout=dropout)
        case "past":
            return TaskHead(outputs, _pool(model) or Pool("last", dense=False), bias=False)
        case "source":
            return TaskHead(outputs, Pool("last"), dropout=dropout, before=dropout)


def _pool(model: Model) -> Pool | None:
    """What a sentence encoder states, or what the model's read-out of whole texts has; None = there is neither."""
    match model.head:
        case Vectors(take=take) if take is not None:
            return Pool(take, dense=False)
        case TaskHead(pool=pool):
            return pool
    return None


def token_head(model: Model, outputs: int, dropout: float = 0.1) -> TaskHead:
    """A read-out of every position."""
    mix = ScalarMix(model.stack.depth + 1) if model.reverse is not None else None
    return TaskHead(outputs, None, dropout=dropout, mix=mix)


def objective_of(task: Task, model: Model, tokenizer: Tokenizer) -> Objective:
    """The task's objective, knowing the ids it needs; an encoder-decoder is given the text on both sides.

    Where whole texts have labels and attention alone joins positions, texts share rows instead of being padded.
    """
    ids = {"bos": tokenizer.bos_id, "eos": tokenizer.eos_id, "vocab": tokenizer.vocab_size}
    objective = task.objective.settle(ids)
    if reads(model) == "source" and "start" in {f.name for f in dataclasses.fields(objective)}:
        objective = objective.replace(start=tokenizer.bos_id)
    if isinstance(objective, Labelled) and objective.whole and packs(model):
        objective = objective.replace(pack=tokens_at_once(model))
    return objective


def packs(model: Model) -> bool:
    """Whether texts that share a row cost no more than texts alone: attention looks at each by itself, on the CPU.

    A recurrence would have to walk along the whole row.
    """
    mixers = [p for block in model.stack.blocks for p in block.parts if hasattr(p.Module, "init_state")]
    return (
        default_device().type == "cpu"
        and model.encoder is None
        and model.reverse is None
        and bool(mixers)
        and all(isinstance(p, Attention) and p.plain for p in mixers)
    )


def tokens_at_once(model: Model) -> int:
    """Tokens of one forward pass while training."""
    return max(1, ACTIVATIONS // (16 * model.dim))
