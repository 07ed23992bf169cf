"""Where words begin, for every kind of tokenizer."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, normalizers, pre_tokenizers

from genus.modalities.text import Tokenizer
from genus.modalities.words import WordStarts
from genus.prepare.tokenizer import build, bytes_tokenizer, characters

TEXT = "Don't unbelievable things happen? naïve 3.14 snake_case"
WORDS = ["Don't", "unbelievable", "things", "happen", "?", "naïve", "3", ".", "14", "snake", "_", "case"]


def _units(tokenizer: Tokenizer, text: str) -> list[str]:
    """Tokens put together to units, without the spaces."""
    words = WordStarts(tokenizer)
    ids = tokenizer.encode(text)
    pieces = [words._spelt(i) for i in ids]
    units: list[bytes] = []
    for piece, begins in zip(pieces, words(np.array(ids)), strict=True):
        if begins:
            units.append(piece)
        else:
            units[-1] += piece
    return [unit.decode().strip() for unit in units if unit.strip()]


def _word_piece() -> Tokenizer:
    vocabulary = ["[UNK]", "[CLS]", "[SEP]", "don", "'", "t", "un", "##believ", "##able", "things", "?"]
    core = Core(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    core.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    return Tokenizer(core, {"cls_token": "[CLS]", "sep_token": "[SEP]"})


def test_bytes_characters_and_pieces_give_the_same_words() -> None:
    assert _units(bytes_tokenizer(), TEXT) == WORDS
    assert _units(characters("abcdefghinopstuv "), TEXT) == WORDS  # the others are spelled in bytes


def test_byte_level_pieces() -> None:
    bpe = build("bpe", [TEXT, "believe thing able"] * 3, 1000, vocab=290)
    assert _units(bpe, TEXT) == [*WORDS[:-2], "_case"]  # a token that holds a mark and a word is one unit
    assert len(bpe.encode(TEXT)) > 20


def test_word_pieces() -> None:
    assert _units(_word_piece(), "unbelievable things? unbelievable") == ["unbelievable", "things", "?", "unbelievable"]


def test_special_tokens_end_a_word() -> None:
    tokenizer = bytes_tokenizer()
    ids = [*tokenizer.encode("ab"), tokenizer.eos_id, *tokenizer.encode("cd")]
    assert WordStarts(tokenizer)(ids).tolist() == [True, False, True, True, False]


def test_a_row_may_begin_inside_a_character() -> None:
    tokenizer = bytes_tokenizer()
    ids = tokenizer.encode("é word")[1:]
    assert WordStarts(tokenizer)(ids).tolist() == [True, True, True, False, False, False]


def test_chinese() -> None:
    pytest.importorskip("jieba")
    text = "我来到北京清华大学。Hello世界"
    expected = ["我", "来到", "北京", "清华大学", "。", "Hello", "世界"]
    assert _units(bytes_tokenizer(), text) == _units(characters(text), text) == expected


def test_chinese_without_jieba(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def missing(name: str, *rest):
        if name == "jieba":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.delitem(sys.modules, "jieba", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    words = WordStarts(bytes_tokenizer())
    assert words(bytes_tokenizer().encode("no Chinese")).sum() == 3
    with pytest.raises(ValueError, match=r"genus\[chinese\]"):
        words(bytes_tokenizer().encode("有中文"))
