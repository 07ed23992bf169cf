"""Small models with random weights, large enough that their choices differ from token to token."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers

import genus
from genus.modalities.text import Tokenizer
from genus.prepare.tokenizer import build, bytes_tokenizer
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


TEXTS = [
    'The cat said "yes" to 12 dogs, [1, 2] and {"name": "no"}: true!',
    "春眠不覺曉，處處聞啼鳥。",
    "yes no maybe null 3.5\n",
] * 3


def _wrapped(model: Any, decoder: Any, before: Any = None, end: str = "</s>") -> Tokenizer:
    core = Core(model)
    core.decoder = decoder
    if before is not None:
        core.pre_tokenizer = before
    core.add_special_tokens([end])
    return Tokenizer(core, {"eos_token": end})


def _sentencepiece() -> Tokenizer:
    """As LLaMA's: ▁ for a space, bytes for what is not in the vocabulary."""
    words = ["▁", "▁yes", "▁no", "yes", "n", "o", "y", "e", "s", '"', "▁maybe", "{", "}", ":", ",", "1", "2", '"a"', "▁1", "▁{"]
    vocabulary = {token: i for i, token in enumerate([f"<0x{byte:02X}>" for byte in range(256)] + words)}
    decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return _wrapped(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True), decoder)


def _wordpiece() -> Tokenizer:
    words = ["[UNK]", "yes", "no", "##s", "##o", "n", "y", "##e", "may", "##be", "1", "2", "don", "'", "t", "是", "不", "the"]
    vocabulary = {token: i for i, token in enumerate(words)}
    model = models.WordPiece(vocab=vocabulary, unk_token="[UNK]")
    return _wrapped(model, decoders.WordPiece(), pre_tokenizers.BertPreTokenizer())


MAKERS = {
    "bytes": bytes_tokenizer,
    "chars": lambda: build("chars", TEXTS, 1000),
    "bpe": lambda: build("bpe", TEXTS, 1000, 330),
    "words": lambda: build("words", TEXTS, 1000),
    "sentencepiece": _sentencepiece,
    "wordpiece": _wordpiece,
}


@pytest.fixture(scope="session", params=list(MAKERS))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """A small tokenizer of every kind."""
    return MAKERS[request.param]()
