"""Rows of a stored stream, and the ids that objectives are settled with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from genus.objectives.batch import Rows
from genus.objectives.mixture import Mixture

EOS, PAD, CLS, SEP, MASK, SENTINEL = 99, 100, 101, 102, 103, 200


@pytest.fixture(scope="session")
def ids() -> dict[str, int]:
    """Text is 0 to 98."""
    known = {"bos": EOS, "eos": EOS, "pad": PAD, "cls": CLS, "sep": SEP, "mask": MASK, "vocab": 104}
    sentinels = {role: SENTINEL + i for i, role in enumerate(r for r in Mixture().symbols if r.startswith("sentinel"))}
    return known | sentinels | {"[NLU]": 301, "[NLG]": 302, "[S2S]": 303}


@pytest.fixture(scope="session")
def rows() -> Callable[..., Rows]:
    """Rows of documents given as lists of tokens, an end token after each but one that the row cuts (`...`)."""

    def make(*lines: list[list[int]], length: int = 0, cut: bool = False) -> Rows:
        width = length or max(sum(len(d) + 1 for d in line) - cut for line in lines)
        tokens = torch.zeros(len(lines), width, dtype=torch.int64)
        doc = torch.full((len(lines), width), -1)
        number = 0
        for r, line in enumerate(lines):
            flat = [(t, number + d) for d, document in enumerate(line) for t in (*document, EOS)][: width if cut else None]
            number += len(line)
            for at, (token, which) in enumerate(flat):
                tokens[r, at], doc[r, at] = token, which
        return Rows(tokens, doc, torch.full((len(lines),), EOS), torch.ones(len(lines), dtype=torch.bool), EOS)

    return make


@pytest.fixture
def seed() -> torch.Generator:
    return torch.Generator().manual_seed(0)
