"""Tokenizers of every kind: lossless where they say so, standard files, special tokens, streaming."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers

from genus.modalities.documents import DocumentEncoder
from genus.modalities.text import END, Tokenizer
from genus.prepare.tokenizer import build

SAMPLE = ["The quick brown fox jumps over the lazy dog.\n", "床前明月光，疑是地上霜。\r\n", "naïve café — 3.14 😀\t\n"] * 20
HARD = "Hello, 世界! 😀👩‍👩‍👧\r\n\x00\x07\x1f a\u00a0b\ufeff\u200d <|endoftext|> café ’s 12345 <0x41> \ufffd 𠀀\n\n\n  x"

LEARNT = ("bpe", "unigram")
LOSSLESS = {kind: build(kind, SAMPLE, 5000, vocab=400 if kind in LEARNT else None) for kind in (*LEARNT, "bytes", "chars")}
WORDS = build("words", SAMPLE, 0)
texts = (
    st.text()
    | st.text(alphabet=st.characters(codec="utf-8", min_codepoint=0x2E80))
    | st.text(alphabet="a 中文😀\r\n\x00\u00a0<|endoftext|>'0")
    | st.sampled_from([HARD, END, ""])
)


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=texts)
@settings(max_examples=150, deadline=None)
def test_round_trip_is_lossless(kind: str, text: str) -> None:
    tokenizer = LOSSLESS[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.eos_id not in ids
    stream = tokenizer.stream()
    assert "".join([stream.push(i) for i in ids] + [stream.finish()]) == text


@pytest.mark.parametrize("kind", [*LEARNT, "bytes"])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_stream_agrees_with_decode_on_any_ids(kind: str, data: st.DataObject) -> None:
    tokenizer = LOSSLESS[kind]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    stream = tokenizer.stream()
    assert "".join([stream.push(i) for i in ids] + [stream.finish()]) == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", [*LOSSLESS, "words"])
@given(before=st.text(max_size=5), half=st.characters(categories=["Cs"]), after=st.text(max_size=5))
@settings(max_examples=20, deadline=None)
def test_half_of_a_surrogate_pair_is_refused_with_a_remedy(kind: str, before: str, half: str, after: str) -> None:
    tokenizer = LOSSLESS.get(kind) or WORDS
    text = f"{before}x{half}x{after}"
    ways = (
        tokenizer.encode,
        lambda each: tokenizer.encode_batch(["fine", each]),
        lambda each: tokenizer.encode_documents([each]),
    )
    for encode in ways:
        with pytest.raises(ValueError, match="surrogatepass"):
            encode(text)
    repaired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert kind == "words" or tokenizer.decode(tokenizer.encode(repaired)) == repaired


def test_stream_gives_only_complete_characters() -> None:
    tokenizer = LOSSLESS["bytes"]
    stream = tokenizer.stream()
    pieces = [stream.push(i) for i in tokenizer.encode("a月😀")]
    assert pieces == ["a", "", "", "月", "", "", "", "😀"]
    assert stream.push(0xE6) == "" and stream.finish() == "\ufffd"


def test_stream_of_characters_holds_fallback_bytes_back() -> None:
    tokenizer = LOSSLESS["chars"]
    ids = tokenizer.encode("T鑫T")
    assert len(ids) == 5
    stream = tokenizer.stream()
    assert [stream.push(i) for i in ids] == ["T", "", "", "鑫", "T"]


def test_stream_follows_a_decoder_that_looks_at_the_first_token() -> None:
    core = Core(models.BPE(vocab={"<unk>": 0, "</s>": 1, "▁a": 2, "▁b": 3, "c": 4}, merges=[]))
    core.decoder = decoders.Metaspace()
    core.add_special_tokens(["</s>"])
    tokenizer = Tokenizer(core, {})
    stream = tokenizer.stream()
    assert [stream.push(i) for i in (2, 3, 4, 1, 2)] == ["a", " b", "c", "", " a"]
    assert tokenizer.decode([2, 3, 4, 1, 2]) == "a bc a"


@pytest.mark.parametrize("kind", LOSSLESS)
def test_the_letters_of_a_special_token_are_text_unless_asked_otherwise(kind: str) -> None:
    tokenizer = LOSSLESS[kind]
    assert tokenizer.eos_id not in tokenizer.encode(f"a {END} b")
    assert all(tokenizer.eos_id not in ids for ids in tokenizer.encode_batch([END, f"a{END}"]))
    assert tokenizer.encode(f"a{END}", special=True)[-1] == tokenizer.eos_id
    assert tokenizer.decode([tokenizer.eos_id]) == "" and tokenizer.decode([tokenizer.eos_id], special=True) == END


@pytest.mark.parametrize("kind", [*LOSSLESS, "words"])
def test_encode_documents_is_encode_and_end_tokens(kind: str) -> None:
    tokenizer = LOSSLESS.get(kind) or WORDS
    documents = ["", HARD, "abc", *SAMPLE[:3], "鑫" * 5]
    ids, lengths = tokenizer.encode_documents(documents)
    assert ids.tolist() == [i for text in documents for i in [*tokenizer.encode(text), tokenizer.eos_id]]
    assert lengths.tolist() == [len(tokenizer.encode(text)) + 1 for text in documents]
    empty, none = tokenizer.encode_documents([])
    assert len(empty) == len(none) == 0


@pytest.mark.parametrize("pattern", ["qwen2", "gpt2"])
def test_long_texts_are_cut_where_no_token_reaches_across(pattern: str) -> None:
    tokenizer = LOSSLESS["bpe"]
    if pattern == "gpt2":
        core = Core.from_str(tokenizer.core.to_str())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer = Tokenizer(core, tokenizer.config)
    rng = np.random.default_rng(0)
    alphabet = ["The quick", " ", "\n", "\n", "\n\n", "\r\n", ".", "，", "明月", "'s", "7", "\t", "!?\n", "  "]
    text = "".join(rng.choice(alphabet, size=200_000))
    pieces = DocumentEncoder(tokenizer).pieces(text)
    assert len(pieces) > 2 and "".join(pieces) == text
    ids, _ = tokenizer.encode_documents([text])
    assert ids[:-1].tolist() == tokenizer.encode(text)


def test_a_tokenizer_that_adds_a_prefix_never_cuts() -> None:
    core = Core(models.BPE(vocab={"</s>": 0, "a": 1, "▁": 2, "\n": 3}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.add_special_tokens(["</s>"])
    assert len(DocumentEncoder(Tokenizer(core, {})).pieces("a\n" * 200_000)) == 1


@pytest.mark.parametrize("kind", [*LOSSLESS, "words"])
def test_transformers_opens_the_saved_folder(kind: str, tmp_path) -> None:
    from transformers import AutoTokenizer

    tokenizer = LOSSLESS.get(kind) or WORDS
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    peer = AutoTokenizer.from_pretrained(tmp_path)
    text = "The lazy fox 床前明月光，鑫 12 naïve\r\n  café 😀"
    assert peer.encode(text, add_special_tokens=False) == tokenizer.encode(text) == again.encode(text)
    assert peer.encode(text)[0] == peer.bos_token_id == tokenizer.bos_id == again.bos_id
    assert peer.eos_token_id == tokenizer.eos_id and tokenizer.add_bos and again.add_bos
    assert again.kind == kind and again.fingerprint == tokenizer.fingerprint
    assert peer.decode(tokenizer.encode(text)) == tokenizer.decode(tokenizer.encode(text))
    assert (peer.decode(tokenizer.encode(text)) == text) == (kind != "words")


def test_fingerprint_tells_vocabularies_apart() -> None:
    assert LOSSLESS["bpe"].fingerprint != build("bpe", SAMPLE, 5000, vocab=300).fingerprint


def test_chat_template_and_foreign_settings_survive_saving(tmp_path) -> None:
    tokenizer = Tokenizer(LOSSLESS["bytes"].core, {"eos_token": {"content": END}, "model_max_length": 77}, "{{ messages }}")
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.chat_template == "{{ messages }}" and again.config["model_max_length"] == 77
    assert again.eos_id == 256 and again.kind == "imported"


def test_a_real_imported_tokenizer(shared_data) -> None:
    tokenizer = Tokenizer.load(shared_data / "stories260K" / "hf")
    text = "Once upon a time, there was a little girl.\nShe 月 liked <s> it."
    ids = tokenizer.encode(text)
    stream = tokenizer.stream()
    assert "".join([stream.push(i) for i in ids] + [stream.finish()]) == tokenizer.decode(ids) == text
    assert tokenizer.bos_id not in ids and tokenizer.eos_id not in ids


def test_errors_say_what_to_do(tmp_path) -> None:
    with pytest.raises(ValueError, match="give bpe, unigram, bytes, chars, words"):
        Tokenizer.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="save_pretrained"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"not a tokenizer\.json"):
        Tokenizer.load(tmp_path)
    with pytest.raises(ValueError, match="eos_token"):
        Tokenizer(Core(models.BPE(vocab={"a": 0}, merges=[])), {})
    with pytest.raises(ValueError, match=r"not in tokenizer\.json"):
        Tokenizer(LOSSLESS["bytes"].core, {"eos_token": "<nope>"})


def test_special_tokens_by_role() -> None:
    plain = LOSSLESS["bpe"]
    larger = plain.extended(("cls", "sep", "mask", "sentinel_0"))
    assert [larger.role(r) for r in ("cls", "sep", "mask", "sentinel_0")] == [plain.vocab_size + i for i in range(4)]
    assert larger.role("pad") is None and plain.role("cls") is None
    assert larger.encode("hello world") == plain.encode("hello world")
    assert larger.extends(plain) and not plain.extends(larger) and plain.extends(plain)
    assert larger.extended(("mask", "cls")) is larger


def test_frame(tmp_path) -> None:
    plain = LOSSLESS["bpe"]
    a, b = plain.encode("hello hello world"), plain.encode("world")
    assert plain.frame("hello hello world")[0] == [plain.bos_id, *a]
    larger = plain.extended(("cls", "sep"))
    larger.save(tmp_path)
    for each in (larger, Tokenizer.load(tmp_path)):
        cls, sep = each.role("cls"), each.role("sep")
        ids, types = each.frame("hello hello world", "world")
        assert ids == [cls, *a, sep, *b, sep]
        assert types == [0] * (len(a) + 2) + [1] * (len(b) + 1)
    ids, _ = larger.frame("hello hello world " * 5, "world", limit=len(b) + 3 + 6)
    assert len(ids) == len(b) + 9 and ids[-len(b) - 1 : -1] == b  # the longer text gave way
    assert len(larger.frame("hello hello world " * 5, limit=6)[0]) == 6
