"""A small base and small labels on which a fit takes a second."""

from __future__ import annotations

import random

import pytest

from genus.prepare.tokenizer import build
from genus.recipes import make
from genus.tune.base import Base

GOOD, BAD = ("good", "fine", "warm", "great"), ("bad", "dull", "cold", "poor")
PLAIN = ("the", "film", "is", "was", "and", "very", "a", "story", "so", "with")


def reviews(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Rows whose label shows in one word."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        words = [rng.choice(PLAIN) for _ in range(rng.randint(3, 8))]
        words.insert(rng.randrange(len(words)), rng.choice((BAD, GOOD)[i % 2]))
        rows.append({"text": " ".join(words), "label": ("neg", "pos")[i % 2]})
    return rows


@pytest.fixture(scope="session")
def bert() -> Base:
    """A fresh two-layer encoder, 32 wide, with a word tokenizer."""
    tokenizer = build("words", [" ".join((*GOOD, *BAD, *PLAIN))] * 2, 100).extended(("cls", "sep"))
    return Base("recipe", make("bert", dim=32, depth=1, heads=2, vocab=tokenizer.vocab_size, context=64), tokenizer)


@pytest.fixture(scope="session")
def gpt() -> Base:
    """A fresh decoder."""
    tokenizer = build("words", [" ".join((*GOOD, *BAD, *PLAIN))] * 2, 100)
    return Base("recipe", make("gpt2", dim=32, depth=1, heads=2, vocab=tokenizer.vocab_size, context=64), tokenizer)
