"""A larger vocabulary for a trained model: tokens that come after those it knows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from genus.parts.char_cnn import spelling
from genus.parts.head import Head
from genus.parts.model import Model

TABLES = ("embed.tokens.weight", "head.weight", "head.bias")
"""What has a row for every token."""

SPELLING = "embed.tokens.spelling"


def grow(spec: Model, weights: Mapping[str, Tensor], known: int, vocab: int) -> tuple[Model, dict[str, Tensor]]:
    """A model that has `vocab` tokens, of one that knows the first `known`.

    A new token begins as the mean of the known ones, in the table and in the read-out: its probability is then not far from
    the average token's, so that nothing else is disturbed (Hewitt 2021, "Initializing new word embeddings for pretrained
    language models"). A table that already has rows to spare keeps its size.

    Args:
        weights: by parameter name; not changed.
    """
    size = max(vocab, spec.embed.vocab)
    tables = TABLES if isinstance(spec.head, Head) else TABLES[:1]
    new = dict(weights)
    for name in tables:
        if name in weights:
            old = weights[name]
            rows = old.new_empty(size, *old.shape[1:])
            rows[: len(old)] = old
            rows[known:] = old[:known].float().mean(0).to(old.dtype)
            new[name] = rows
    if SPELLING in weights:  # new tokens are no text: they are told apart by their ids
        old = weights[SPELLING]
        new[SPELLING] = torch.cat([old, spelling([None] * size, old.shape[1])[len(old) :].to(old)])
    return spec.replace(embed=spec.embed.replace(vocab=size)), new


def grown(model: nn.Module, known: int, vocab: int) -> nn.Module:
    """`grow` of a module: a new one."""
    spec, weights = grow(model.spec, model.state_dict(), known, vocab)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):  # the weights that `build` draws are overwritten at once
        larger = spec.build(0)
    larger.load_state_dict(weights)
    return larger
