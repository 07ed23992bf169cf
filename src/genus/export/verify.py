"""Is the folder that was written the model that was meant? Read it back and compare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from genus.export import huggingface
from genus.export.weights import DTYPES
from genus.parts.ngram import NGram

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

SAMPLE = (
    "Once upon a time there was a small house at the edge of the wood. It had one door, two windows and 3 chimneys — 从前有座山。"
)
LENGTH = 64


@dataclass(frozen=True)
class Check:
    """What the comparison found.

    Attributes:
        tensors: number of tensors, all equal to ours bit for bit once ours are rounded to the file's precision.
        tokens: length of the sample. difference: largest difference of its logits to the unrounded model's; 0 in float32.
        agree: share of the sample's positions whose most probable token is the same.
    """

    tensors: int
    tokens: int
    difference: float
    agree: float


@torch.no_grad()
def verify(folder: str | Path, model: Any, spec: Any, tokenizer: Tokenizer | None, dtype: str = "fp32") -> Check:
    """Load `folder` and compare it with the model that was saved there in precision `dtype`.

    Raises:
        ValueError: anything differs that must not: the spec, a tensor, the logits in float32, the tokens of a text.
    """
    other, other_spec, other_tokenizer = huggingface.load(folder)
    counted = isinstance(spec, NGram)
    if other_spec != spec and not counted:
        raise ValueError(f"{folder}: reading the export back gives another specification; this is a fault of genus, report it")
    ours, theirs = _tensors(model, counted), _tensors(other, counted)
    for name, tensor in ours.items():
        expected = tensor if counted else tensor.to(DTYPES[dtype]).to(tensor.dtype)
        if name not in theirs or not torch.equal(expected, theirs[name]):
            raise ValueError(f"{folder}: {name} was not written as it is; the disk may be full or faulty, export again")
    ids = _sample(spec, tokenizer)
    a, b = _logits(model, ids), _logits(other, ids)
    difference = float((a - b).abs().max())
    if dtype == "fp32" and difference != 0.0:
        raise ValueError(f"{folder}: the logits differ by {difference:.2g} though the weights agree; report this")
    if tokenizer is not None and (other_tokenizer is None or other_tokenizer.encode(SAMPLE) != tokenizer.encode(SAMPLE)):
        raise ValueError(f"{folder}: the tokenizer that was written splits text in another way than the model's own")
    agree = float((a.argmax(-1) == b.argmax(-1)).float().mean())
    return Check(len(ours), ids.shape[1], difference, agree)


def _tensors(model: Any, counted: bool) -> dict[str, Tensor]:
    """Parameters and tables, each once."""
    buffers = dict(model.named_buffers())
    return buffers if counted else dict(model.named_parameters()) | buffers


def _sample(spec: Any, tokenizer: Tokenizer | None) -> Tensor:
    """(1, time) ids: a sentence, or the first ids of the vocabulary."""
    vocab = spec.vocab if isinstance(spec, NGram) else spec.embed.vocab
    ids = list(range(min(vocab, LENGTH)))
    if tokenizer is not None:
        ids = [tokenizer.bos_id, *tokenizer.encode(SAMPLE)]
    return torch.tensor([[i for i in ids if i < vocab][: min(LENGTH, spec.context or LENGTH)]])


def _logits(model: Any, ids: Tensor) -> Tensor:
    training = model.training
    model.eval()
    source = {"source": ids} if getattr(model, "encoder", None) is not None else {}
    logits = model(ids, **source)
    model.train(training)
    return logits  # type: ignore[no-any-return]
