"""Vectors of texts from a model that stays as it is, for a linear model to learn from (Peters et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from genus.evaluate.evaluation import WINDOW, context_of
from genus.parts.attention import Attention
from genus.parts.ctx import PADDING
from genus.parts.model import Model
from genus.parts.task_head import Take, Vectors, one_vector
from genus.run import Loaded, load
from genus.spec import walk
from genus.tune.counted import counted
from genus.tune.reading import reads

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

Pooling = Take | Literal["layers"]
POOLINGS: tuple[Pooling, ...] = ("mean", "first", "last", "max", "layers")
Text = str | tuple[str, str]


def features(
    model: str | Path | Loaded | nn.Module,
    tokenizer: Tokenizer | None,
    texts: Sequence[Text],
    pool: Pooling | None = None,
    layer: int = -1,
    *,
    limit: int | None = None,
    batch_tokens: int = 8192,
    dtype: torch.dtype = torch.float32,
    say: Callable[[str], None] = lambda _: None,
) -> np.ndarray:
    """One vector for each text, (N, D) float32, in the order of the texts. Nothing is trained and nothing is kept.

    A text is read with what the tokenizer puts around it (`[CLS] text [SEP]`, BOS), and those tokens count as positions. An
    encoder-decoder reads it with its encoder, ELMo in both directions.

    Args:
        model: a run, a model folder, what `genus.load` returned, or a module built from a `Model`.
        tokenizer: None = the model's own. texts: strings, or pairs of them.
        pool: mean over the positions, the first position, the last, the largest of each coordinate, or "layers": the means of all
            layers side by side, so that a linear model may weigh the layers as ELMo's mixture does. None = what a sentence
            encoder states, at length 1 where it says so; of any other model the mean.
        layer: 0 = the embedding's output, 1 the first layer's, -1 the last's (`Model.Module.layers`); not used with "layers".
        limit: most tokens of a text; None = what a sentence encoder states, else what the model was made for, and no limit for a
            model without attention.
        batch_tokens: positions computed at once, padding included. say: told how many texts were cut.

    Raises:
        ValueError: the model keeps counts and has no vectors, it has no such layer, or it has no tokenizer.
    """
    loaded = load(model) if isinstance(model, str | Path) else model
    network, spec = (loaded.model, loaded.spec) if isinstance(loaded, Loaded) else (loaded, loaded.spec)
    if not isinstance(spec, Model):
        raise ValueError("an n-gram keeps counts and has no vectors; choose a network, or a bag of words (genus tune --compare)")
    tokenizer = tokenizer or (loaded.tokenizer if isinstance(loaded, Loaded) else None)
    if tokenizer is None:
        raise ValueError("there is no tokenizer: put the model's own tokenizer.json into its folder")
    unit = pool is None and isinstance(spec.head, Vectors) and spec.head.unit
    pool = pool or usual_pool(spec)
    if pool not in POOLINGS:
        raise ValueError(f"pool {pool!r} is not one of: {', '.join(POOLINGS)}")
    depth = (spec.encoder or spec.stack).depth
    if pool != "layers" and not -depth - 1 <= layer <= depth:
        raise ValueError(f"there is no layer {layer}: 0 is the embedding's output, {depth} (or -1) the last layer's")
    most = limit or _limit(loaded, spec)
    framed = [_frame(tokenizer, text, most, ends=spec.reverse is not None) for text in texts]
    cut = sum(each[2] for each in framed)
    if cut:
        say(f"cut at {most:,} tokens: {cut:,} of {counted(len(texts), 'text')}")
    rows = [(ids, types) for ids, types, _ in framed]
    found = _compute(network, spec, rows, pool, layer, batch_tokens, dtype)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12) if unit else found


def usual_pool(model: Model) -> Take:
    """What a sentence encoder states; of any other model the mean."""
    return (model.head.take if isinstance(model.head, Vectors) else None) or "mean"


@torch.inference_mode()
def _compute(
    network: Any, spec: Model, rows: list[tuple[list[int], list[int]]], pool: Pooling, layer: int, room: int, dtype: torch.dtype
) -> np.ndarray:
    device = next(network.parameters()).device
    past = reads(spec) == "past" and spec.reverse is None  # padding on the right is seen by nobody: no mask
    training = network.training
    network.eval()
    found: np.ndarray | None = None
    try:
        for group in batches([len(ids) for ids, _ in rows], room):
            lengths = torch.tensor([len(rows[i][0]) for i in group], device=device)
            width = int(lengths.max())
            ids = torch.tensor([rows[i][0] + [0] * (width - len(rows[i][0])) for i in group], device=device)
            types = None
            if spec.embed.types and any(any(rows[i][1]) for i in group):
                types = torch.tensor([rows[i][1] + [0] * (width - len(rows[i][1])) for i in group], device=device)
            real = torch.arange(width, device=device) < lengths[:, None]
            doc = None if bool(real.all()) else torch.where(real, 0, PADDING)
            layers = network.layers(ids, None if past else doc, types=types, dtype=dtype)
            chosen = layers if pool == "layers" else [layers[layer]]
            vectors = (
                torch.cat([one_vector("mean" if pool == "layers" else pool, each.float(), doc) for each in chosen], dim=-1)
                .cpu()
                .numpy()
            )
            if found is None:
                found = np.zeros((len(rows), vectors.shape[1]), dtype=np.float32)
            found[group] = vectors
    finally:
        network.train(training)
    return np.zeros((0, spec.reads), dtype=np.float32) if found is None else found


def batches(lengths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Numbers of rows, longest first, as many at once as fit `room` positions with the padding that they need."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        count = max(1, room // lengths[order[start]])
        yield order[start : start + count]
        start += count


def _frame(tokenizer: Tokenizer, text: Text, limit: int | None, ends: bool) -> tuple[list[int], list[int], bool]:
    """Ids, segment types, and whether something was cut. `ends`: a direction that begins at the end is told where it is."""
    first, second = (text, None) if isinstance(text, str) else text
    most = None if limit is None else max(1, limit - ends)
    ids, types = tokenizer.frame(first, second)
    cut = most is not None and len(ids) > most
    if cut:
        ids, types = tokenizer.frame(first, second, most)
    if ends and ids[-1:] != [tokenizer.eos_id]:
        ids, types = [*ids, tokenizer.eos_id], [*types, types[-1] if types else 0]
    if not ids:  # an empty text, and nothing around it
        ids, types = [tokenizer.bos_id], [0]
    return list(ids), list(types), cut


def _limit(loaded: Loaded | nn.Module, spec: Model) -> int | None:
    """Most tokens that the model should read at once."""
    if isinstance(spec.head, Vectors) and spec.head.longest is not None:
        return spec.head.longest
    if spec.context is not None:
        return spec.context
    if not any(isinstance(part, Attention) for part in walk(spec)):
        return None
    made_for = context_of(loaded) if isinstance(loaded, Loaded) else None
    return min(made_for or WINDOW, WINDOW)
