"""The unigram vocabulary: the size asked for, the same every time, whole characters, frequent words in one piece."""

import random
import subprocess
import sys

import pytest

from genus.modalities.byte_bpe import QWEN2, byte_alphabet, fast_encoder
from genus.modalities.stream import bytes_of
from genus.prepare import unigram
from genus.prepare.tokenizer import build, vocabulary_for


def texts(count: int = 200) -> list[str]:
    dice = random.Random(0)
    words = ["".join(dice.choices("abcdefgh", k=dice.randint(2, 7))) for _ in range(300)] + ["明月", "春風", "不知"]
    weights = [1 / (i + 1) for i in range(len(words))]
    return [" ".join(dice.choices(words, weights, k=60)) + "，明月春風。\n" for _ in range(count)]


def test_it_has_the_size_asked_for_and_every_byte() -> None:
    pieces = unigram.train(texts(), 500)
    assert len(pieces) == 500 and len({piece for piece, _ in pieces}) == 500
    assert {piece for piece, _ in pieces[:256]} == set(byte_alphabet())
    scores = [score for _, score in pieces[256:]]
    assert scores == sorted(scores, reverse=True) and max(scores) < 0


def test_no_piece_holds_a_whole_character_and_a_part_of_another() -> None:
    for piece, _ in unigram.train(texts(), 700)[256:]:
        spelt = bytes_of(piece)
        try:
            spelt.decode()
        except UnicodeDecodeError:
            assert len(spelt) < 4 and min(spelt) >= 0x80, spelt


def test_frequent_words_are_one_piece_and_rare_ones_are_not() -> None:
    tokenizer = build("unigram", texts(), 0, vocab=500)
    assert len(tokenizer.encode("，明月春風")) == 1 and len(tokenizer.encode("風月")) == 2
    assert len(tokenizer.encode(" zzzzzzzz")) == 9
    assert tokenizer.vocab_size == 500 and tokenizer.eos_id == 499


def test_it_does_not_depend_on_the_process() -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); from test_unigram import *; print(unigram.train(texts(50), 400))"
    folder = __file__.rpartition("/")[0]
    runs = [
        subprocess.run(
            [sys.executable, "-c", script, folder],
            env={"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true", "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, threads in (("1", "1"), ("2", "4"))
    ]
    assert runs[0] == runs[1] and len(runs[0]) > 5000


def test_pruning_takes_what_is_cheapest_to_lose() -> None:
    pieces = [(character, -4.0) for character in byte_alphabet()] + [("ab", -1.0), ("abc", -1.5), ("abcd", -1.2)]
    kept = unigram._pruned(pieces, unigram.np.array([1] * 256 + [50, 1, 400]), 258)
    assert [piece for piece, _ in kept[256:]] == ["ab", "abcd"]
    assert unigram._otherwise("abcd", dict(pieces)) == ["abc", "d"]


def test_the_fast_way_gives_the_same_ids() -> None:
    tokenizer = build("unigram", texts(), 0, vocab=600)
    encoder = fast_encoder(tokenizer.core)
    assert encoder is not None
    for text in ["明月 ab abc\n\n de's 123", *texts(5)]:
        assert encoder.encode(text) == tokenizer.encode(text)


def test_little_text_gives_what_it_has() -> None:
    tokenizer = build("unigram", ["ab ab"], 0, vocab=5000)
    assert 257 <= tokenizer.vocab_size < 300
    assert build("unigram", [], 0).vocab_size == 257
    assert build("unigram", texts(), 300_000).vocab_size <= vocabulary_for(300_000)
    with pytest.raises(ValueError, match="--tokenizer bytes"):
        build("unigram", ["a"], 0, vocab=200)


def test_words_are_cut_by_the_pattern_it_says() -> None:
    assert build("unigram", texts(20), 0, vocab=300).config["genus_pattern"] == "qwen2"
    assert QWEN2 in build("unigram", texts(20), 0, vocab=300).core.to_str().replace("\\\\", "\\")
