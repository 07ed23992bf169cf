"""A model built by hand that can copy, and one that cannot, over a vocabulary of characters."""

from __future__ import annotations

import string

import pytest
import torch
from tokenizers import Tokenizer as Fast
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor, nn

from genus import recipes
from genus.evaluate.probes.reading import Subject
from genus.modalities.text import Tokenizer
from genus.spec import Spec


class Copier(nn.Module):
    """Predicts what followed the last time that the `order` tokens before stood here; order 0 = every token alike."""

    def __init__(self, spec: Spec, order: int, sure: float = 12.0) -> None:
        super().__init__()
        self.spec, self.order, self.sure = spec, order, sure
        self.head = nn.Identity()

    def hidden(self, ids: Tensor, *_: object, **__: object) -> Tensor:
        batch, time = ids.shape
        logits = torch.zeros(batch, time, self.spec.embed.vocab)
        if self.order:
            same = torch.ones(batch, time, time, dtype=torch.bool).tril(-1)
            for k in range(self.order):
                late = torch.full_like(ids, -1)
                late[:, k:] = ids[:, : time - k]
                same &= (late[:, :, None] == late[:, None, :]) & (late[:, None, :] >= 0)
            found, last = same.any(-1), (same * torch.arange(time)).argmax(-1)
            copied = ids.gather(1, (last + 1).clamp(max=time - 1))
            logits.scatter_(2, copied[..., None], self.sure * found[..., None].float())
        return logits


@pytest.fixture(scope="session")
def characters(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """One token for each letter, digit and for the line break."""
    vocab = {c: i for i, c in enumerate(["<|endoftext|>", *string.ascii_lowercase, *string.digits, " ", "\n"])}
    fast = Fast(models.BPE(vocab=vocab, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    fast.decoder = decoders.Fuse()
    fast.add_special_tokens(["<|endoftext|>"])
    folder = tmp_path_factory.mktemp("characters")
    fast.save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


@pytest.fixture
def copier():
    """Makes a model that copies after `order` equal tokens."""

    def make(vocab: int, order: int) -> Copier:
        return Copier(recipes.make("llama", dim=16, depth=1, heads=2, vocab=vocab, context=64).model, order)

    return make


@pytest.fixture
def subject(characters: Tokenizer):
    """Makes a subject whose model copies after `order` equal tokens."""

    def make(order: int, length: int = 128, **more: object) -> Subject:
        spec = recipes.make("llama", dim=16, depth=1, heads=2, vocab=characters.vocab_size, context=length).model
        return Subject("by hand", Copier(spec, order), spec, characters, length, **more)

    return make
