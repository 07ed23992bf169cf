"""What the tokens of a vocabulary are made of."""

import pytest
import torch

from genus import recipes
from genus.modalities.spelling import spell, spellings
from genus.parts.char_cnn import FIRST
from genus.prepare.tokenizer import build

SAMPLE = ["The quick brown fox jumps over the lazy dog.\n", "床前明月光，疑是地上霜。\n", "naïve café\n"] * 20


@pytest.mark.parametrize("kind", ["bpe", "bytes", "chars"])
def test_the_spellings_of_a_text_are_its_bytes(kind: str) -> None:
    tokenizer = build(kind, SAMPLE, 5000, vocab=400 if kind == "bpe" else None)
    names = spellings(tokenizer)
    assert len(names) == tokenizer.vocab_size and names[tokenizer.eos_id] is None
    for text in SAMPLE[:3]:
        assert b"".join(names[i] or b"" for i in tokenizer.encode(text)) == text.encode()


def test_words_are_their_letters() -> None:
    tokenizer = build("words", SAMPLE, 5000)
    assert spellings(tokenizer)[tokenizer.encode("fox")[0]] == b"fox"


def test_a_model_is_told() -> None:
    tokenizer = build("bpe", SAMPLE, 5000, vocab=400)
    model = recipes.make("elmo", dim=16, depth=2, vocab=410, hidden=16, spelled=True).model.build()
    before = model.embed.tokens.spelling.clone()
    spell(model, tokenizer)
    table = model.embed.tokens.spelling
    number = tokenizer.encode("fox")[0]
    name = spellings(tokenizer)[number]
    assert name is not None and table[number, 1 : len(name) + 1].tolist() == [FIRST + b for b in name]
    assert torch.equal(table[400:], before[400:]), "tokens that no text has keep their numbers"
    spell(recipes.make("gpt2", dim=16, depth=1, heads=1, vocab=410).model.build(), tokenizer)
