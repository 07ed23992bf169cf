"""Making tokenizers: the size rule, determinism, cut-offs, adopting existing ones."""

import os
import subprocess
import sys

import pytest
from tokenizers import Tokenizer as Core
from tokenizers import models

from genus.modalities.text import END, Tokenizer
from genus.prepare.tokenizer import adopt, build, vocabulary_for

TEXTS = ["the cat and the dog and the bird", "the end of the story", "明月明月光"] * 5


def test_the_size_rule() -> None:
    assert [vocabulary_for(size) for size in (0, 10_000, 1_003_854, 4_200_000, 10**8, 10**9, 10**12)] == [
        512, 512, 2048, 4096, 16_384, 65_536, 65_536,
    ]  # fmt: skip


def test_bpe_has_the_size_asked_for_and_learns_frequent_words() -> None:
    tokenizer = build("bpe", TEXTS, 0, vocab=270)
    assert tokenizer.vocab_size == 270 and len(tokenizer.encode(" the")) == 1
    assert tokenizer.config["genus_pattern"] == "qwen2"


def test_bpe_training_does_not_depend_on_threads() -> None:
    script = "\n".join(
        [
            "import random; from genus.prepare.tokenizer import build",
            "dice = random.Random(0)",
            "words = [''.join(dice.choices('abcdefg月光', k=dice.randint(1, 6))) for _ in range(500)]",
            "texts = [' '.join(dice.choices(words, k=200)) for _ in range(100)]",
            "print(build('bpe', texts, 0, vocab=600).fingerprint)",
        ]
    )
    prints = [
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "4", "4")
    ]
    assert len(set(prints)) == 1 and len(prints[0]) == 65


def test_words_cut_off_and_unknown() -> None:
    tokenizer = build("words", [*TEXTS, "once", "don't e-mail 3.14 <unk>\n"], 0)
    assert tokenizer.id("once") is None and tokenizer.id("the") is not None
    assert tokenizer.decode(tokenizer.encode("the once , cat")) == "the <unk> <unk> cat"
    every = build("words", ["don't e-mail 3.14, 明月 ok\n"], 0, min_count=1)
    assert {every.token(i) for i in range(every.vocab_size)} == {
        "<unk>", END, "don't", "e-mail", "3.14", ",", "明", "月", "ok", "\n",
    }  # fmt: skip
    assert build("words", TEXTS, 0, vocab=2).vocab_size == 4
    assert every.encode("<unk>") == [0] and every.encode(END) == [0] * len(every.encode(END))


def test_characters_in_order_and_rare_ones_as_bytes() -> None:
    tokenizer = build("chars", ["ba", "b月"], 0, min_count=2)
    assert tokenizer.encode("bb") == [0, 0] and tokenizer.vocab_size == 1 + 256 + 1
    assert tokenizer.encode("月") == [1 + byte for byte in "月".encode()]


def test_bytes_are_their_own_ids() -> None:
    tokenizer = build("bytes", [], 0)
    assert tokenizer.encode("Aé\n") == list("Aé\n".encode()) and tokenizer.eos_id == 256


def test_vocabularies_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="--tokenizer bytes"):
        build("bpe", TEXTS, 0, vocab=256)


def test_an_adopted_tokenizer_begins_prompts_with_bos_and_keeps_its_ids(tmp_path) -> None:
    core = Core(models.BPE(vocab={"a": 0, "b": 1, "<s>": 2, "</s>": 3}, merges=[]))
    core.add_special_tokens(["<s>", "</s>"])
    Tokenizer(core, {"eos_token": "</s>", "model_max_length": 9}, "{{ template }}").save(tmp_path)
    plain, ours = Tokenizer.load(tmp_path), adopt(tmp_path)
    assert not plain.add_bos and ours.add_bos and (ours.bos_id, ours.eos_id) == (2, 3)
    assert ours.encode("ab") == [0, 1] and ours.fingerprint == plain.fingerprint
    ours.save(tmp_path / "again")
    again = adopt(tmp_path / "again")
    assert again.add_bos and again.chat_template == "{{ template }}" and again.config["model_max_length"] == 9
