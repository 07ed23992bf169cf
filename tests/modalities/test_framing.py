"""Words and windows: what a token stands for."""

from __future__ import annotations

import pytest

from genus.modalities.framing import frame_many, frame_words, windows
from genus.prepare.tokenizer import build

TEXT = "the quick brown fox jumps over the lazy dog and then sleeps "
BPE = build("bpe", [TEXT * 20, "狐狸跳过了狗"], 2000, vocab=320).extended(("cls", "sep"))


@pytest.mark.parametrize(
    "tokenizer", [BPE, build("bytes", [], 0), build("words", [TEXT * 3], 100)], ids=["bpe", "bytes", "words"]
)
def test_every_word_has_tokens(tokenizer) -> None:
    words = ["the", "quick", "\u200b", "unheard-of", "dog", "."]
    ids, types, of_word = frame_words(tokenizer, words, 200)
    assert len(ids) == len(types) == len(of_word)
    found = [w for w in of_word if w is not None]
    assert sorted(set(found)) == list(range(len(words))) and found == sorted(found)


def test_many_at_once() -> None:
    texts = [("the fox",), ("the fox", "a dog"), (TEXT * 3,), (TEXT, TEXT), ("",)]
    for (ids, types, cut), text in zip(frame_many(BPE, texts, 24), texts):
        whole, wanted_types = BPE.frame(*text)
        assert cut == (len(whole) > 24) and len(ids) <= 24
        assert (ids, types or [0] * len(ids)) == ((whole, wanted_types) if not cut else BPE.frame(*text, limit=24))


def test_words_are_spelt_as_in_a_text() -> None:
    ids, _, of_word = frame_words(BPE, ["the", "quick", "fox"], 200)
    assert ids == BPE.frame("the quick fox")[0] and of_word[0] is None and of_word[-1] is None
    chinese, _, _ = frame_words(BPE, ["狐狸", "跳", "fox"], 200)
    assert BPE.decode(chinese) == "狐狸跳 fox"


def test_words_that_do_not_fit_are_left_off_whole() -> None:
    words = TEXT.split()
    ids, _, of_word = frame_words(BPE, words, 10)
    kept = {w for w in of_word if w is not None}
    assert len(ids) <= 10 and kept == set(range(len(kept))) and 0 < len(kept) < len(words)
    long, _, of_long = frame_words(BPE, ["x" * 50], 10)  # a word longer than the limit is cut
    assert len(long) == 10 and set(of_long) == {None, 0}


def test_windows_cover_the_context_and_know_its_characters() -> None:
    context, question = TEXT * 4, "who jumps?"
    found = windows(BPE, question, context, 40)
    assert len(found) > 1 and all(len(w.ids) <= 40 for w in found)
    seen = set()
    for window in found:
        for place in window.places:
            if place is not None:
                assert context[place[0] : place[1]].strip() == context[place[0] : place[1]] or place[0] == place[1]
                seen.update(range(*place))
    assert all(i in seen for i, c in enumerate(context) if not c.isspace())
    whole = windows(BPE, question, "the lazy dog", 40)
    assert len(whole) == 1 and whole[0].ids == BPE.frame(question, "the lazy dog")[0]
    assert "".join(c for p in whole[0].places if p for c in "the lazy dog"[p[0] : p[1]]) == "thelazydog"
    with pytest.raises(ValueError, match="leave no room"):
        windows(BPE, question * 5, context, 12)
