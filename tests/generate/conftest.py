"""Small models with random weights, large enough that their choices differ from token to token."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import genus
from genus.prepare.tokenizer import bytes_tokenizer
from genus.run import Loaded

SIZES = {"dim": 32, "depth": 2, "heads": 2, "vocab": 257, "context": 64}


def make(name: str, **sizes: Any) -> Loaded:
    torch.manual_seed(1)
    spec = genus.recipe(name, **{**SIZES, **sizes}).model
    model = spec.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(std=0.3 * min(1.0, SIZES["dim"] / parameter.shape[-1]) ** 0.5)  # larger sums are chaotic
    return Loaded(model, spec, bytes_tokenizer(), Path("nowhere"), {})


@pytest.fixture
def small() -> Callable[..., Loaded]:
    """`small(recipe, **sizes)`: a loaded model over bytes."""
    return make
