"""The fast encoder gives the ids of `tokenizers`, or says that it would rather not."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Core

from genus.modalities import byte_bpe
from genus.modalities.byte_bpe import GPT2, LLAMA3, QWEN2, fast_encoder
from genus.modalities.text import Tokenizer
from genus.prepare.tokenizer import build

BPE = build("bpe", ["the cat's hat, it's 12 o'clock\n\n  'S   床前明月光，疑是地上霜。", "naïve café ſ 😀\r\n"] * 9, 0, vocab=360)


def with_pattern(pattern: str) -> Core:
    core = Core.from_str(BPE.core.to_str())
    if pattern == GPT2:
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        core.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    core.encode_special_tokens = True
    return core


CORES = {pattern: with_pattern(pattern) for pattern in (QWEN2, LLAMA3, GPT2)}
ENCODERS = {pattern: fast_encoder(core) for pattern, core in CORES.items()}
alphabet = st.sampled_from(
    [*"aZéſ'’sSdDtreEveLl  \n\n\r\t\x0b\x1c\x85\xa0\u3000\u200b_-.,!<|>07٣½Ⅷ月光一。，〇𠀀😀\u0301\u180e", "'ll", "<|endoftext|>"]
)


@pytest.mark.parametrize("pattern", ENCODERS)
@given(text=st.lists(alphabet, max_size=40).map("".join) | st.text(max_size=40))
@settings(max_examples=400, deadline=None)
def test_ids_are_those_of_the_library(pattern: str, text: str) -> None:
    encoder = ENCODERS[pattern]
    assert encoder is not None
    ids = encoder.encode(text)
    assert ids is None or ids == CORES[pattern].encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("pattern", ENCODERS)
def test_every_character_of_the_plane(pattern: str) -> None:
    encoder = ENCODERS[pattern]
    assert encoder is not None
    sure = [c for i in range(0x10000) if not 0xD800 <= i < 0xE000 and encoder.encode(c := chr(i)) is not None]
    assert len(sure) > 40_000
    texts = ["".join(f"a{c} {c}1 '{c}s\n{c}.  {c}" for c in sure[i : i + 100]) for i in range(0, len(sure), 100)]
    expected = CORES[pattern].encode_batch_fast(texts, add_special_tokens=False)
    assert [encoder.encode(text) for text in texts] == [encoding.ids for encoding in expected]


def test_common_text_is_taken_and_doubtful_text_is_not() -> None:
    encoder = ENCODERS[QWEN2]
    assert encoder is not None
    for text in ("Plain.\r\n", "naïve Größe", "床前明月光，𠀀", "😀🚀", "кириллица, ελληνικά, हिन्दी, عربي"):
        assert encoder.encode(text), text
    for text in ("\x1c", "ſ", chr(0x1D400), "\u180e", "\U0001fae0"):
        assert encoder.encode(text) is None, [unicodedata.name(c, c) for c in text]


def test_only_tokenizers_it_knows() -> None:
    assert fast_encoder(build("words", ["a a"], 0).core) is None and fast_encoder(build("chars", ["a"], 0).core) is None
    changes = {
        "normalizer": lambda core: setattr(core, "normalizer", normalizers.NFC()),
        "prefix": lambda core: setattr(core, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        "no regex": lambda core: setattr(
            core, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        ),
        "other": lambda core: setattr(core, "pre_tokenizer", pre_tokenizers.Whitespace()),
        "added words": lambda core: core.add_tokens(["cat's hat"]),
        "dropout": lambda core: setattr(core, "model", models.BPE(vocab={"a": 0}, merges=[], dropout=0.5)),
    }
    for name, change in changes.items():
        core = with_pattern(QWEN2)
        change(core)
        assert fast_encoder(core) is None, name


def test_memory_is_bounded_and_given_up_where_nothing_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_bpe, "MEMORY", 100)
    encoder = fast_encoder(CORES[QWEN2])
    assert encoder is not None and encoder.pays()
    for i in range(200):
        encoder.encode(" ".join(f"word{chr(97 + i % 26)}{chr(97 + j % 26)}{chr(97 + j // 26)}" for j in range(60)))
        assert len(encoder._memory) <= 100 + 130
    assert not encoder.pays()
    texts = ["明月" * (i % 7) + chr(0x4E00 + i) for i in range(20_000)]
    tokenizer = Tokenizer(CORES[QWEN2], {})
    for start in range(0, 20_000, 5000):
        ids, lengths = tokenizer.encode_documents(texts[start : start + 5000])
        assert lengths.sum() == len(ids)
    assert not tokenizer._documents._fast.pays()
    assert tokenizer.decode(ids[: lengths[0]].tolist()) == texts[15_000]


def test_pieces_that_are_met_again_are_remembered_and_a_new_trial_is_made_after_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_bpe, "MEMORY", 100)
    encoder = fast_encoder(CORES[QWEN2])
    assert encoder is not None
    for i in range(50):  # "common" comes again before it is forgotten, the others do not
        encoder.encode("common" + "".join(f" word{chr(97 + i % 26)}{chr(97 + i // 26)}{chr(97 + j)}" for j in range(26)))
    missed = encoder._memory.missed
    encoder.encode("common")
    assert encoder._memory.missed == missed
    encoder._met, encoder._memory.missed = 20_000, 10_000
    assert [encoder.pays() for _ in range(byte_bpe.REST + 1)] == [False] * (byte_bpe.REST - 1) + [True, True]
