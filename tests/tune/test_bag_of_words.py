"""Bag of words: how texts are cut, and what it can and cannot learn."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from genus.tune.bag_of_words import BagOfWords, Grams

GOOD = ["a fine film", "fine and warm", "warm , kind , fine", "kind people", "so warm"]
BAD = ["a dull film", "cold and dull", "dull , loud , cold", "loud people", "so cold"]


def rows(texts: list[str]) -> list[tuple[str, ...]]:
    return [(t,) for t in texts]


def test_texts_are_cut_as_their_script_asks() -> None:
    assert str(Grams.measure(rows(GOOD))) == "1 to 2 words (0% of the letters stand in a script without spaces)"
    assert Grams.measure(rows(["很快，好吃", "味道足"])) == Grams("char", 1, 3, 1.0)
    mixed = Grams.measure(rows(["the 手机 broke", "screen 很好 ok"]))
    assert mixed.analyzer == "char" and 0.1 < mixed.share < 0.5
    assert Grams.measure(rows(["123 !"])).analyzer == "word"


@pytest.mark.parametrize("texts", [(GOOD, BAD), (["好吃很快", "味道很好", "很好"], ["太慢了", "难吃太慢", "太差"])])
def test_it_learns_words(texts: tuple[list[str], list[str]]) -> None:
    good, bad = texts
    model = BagOfWords().fit(rows(good + bad), ["good"] * len(good) + ["bad"] * len(bad))
    assert model.classes == ["bad", "good"]
    found = model.predict(rows([good[0], bad[0]]))
    assert found.sum(1) == pytest.approx(1) and found.argmax(1).tolist() == [1, 0]
    assert (model.strength, model.chosen) == (BagOfWords.usual, False) and "fixed: too few rows to choose" in str(model)
    assert model.parameters == model.model.coef_.size + 1


def test_regularisation_is_chosen_where_there_are_rows() -> None:
    rng = np.random.default_rng(0)
    texts, labels = [], []
    for _ in range(60):
        label = int(rng.integers(2))
        word = f"sign{label}" if rng.random() < 0.8 else f"sign{1 - label}"
        texts.append(" ".join([word, *(f"noise{rng.integers(40)}" for _ in range(6))]))
        labels.append(label)
    model = BagOfWords().fit(rows(texts), labels)
    assert model.chosen and model.strength in BagOfWords.strengths and "by cross-validation" in str(model)
    assert [model.predict(rows([f"sign{k}"])).argmax() for k in (0, 1)] == [0, 1]
    assert not BagOfWords().fit(rows(texts), [0] * 59 + [1]).chosen  # a label that is seen once cannot be held out


def test_pairs_see_what_both_have() -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    same = [(f"{a} {b}", f"{b} {a}") for a, b in zip(words, words[1:] + words[:1])]
    other = [(a, words[(i + 3) % 8] + " " + words[(i + 4) % 8]) for i, (a, _) in enumerate(same)]
    model = BagOfWords().fit(same + other, [1] * 8 + [0] * 8)
    assert model.predict(same + other).argmax(1).tolist() == [1] * 8 + [0] * 8


def test_numbers() -> None:
    texts = rows([" ".join(["star"] * n + ["text"] * (6 - n)) for n in range(1, 6)] * 8)
    model = BagOfWords(numbers=True).fit(texts, [float(n) for n in range(1, 6)] * 8)
    found = model.predict(texts[:5])
    assert found.shape == (5,) and (np.diff(found) > 0).all() and "ridge regression, alpha" in str(model)


def test_what_it_cannot_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="one class only"):
        BagOfWords().fit(rows(GOOD), [1] * 5)
    with pytest.raises(ValueError, match="hold no words"):
        BagOfWords().fit(rows(["", " "]), [0, 1])
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"need scikit-learn: pip install 'genus\[eval\]'"):
        BagOfWords().fit(rows(GOOD), [0, 1, 0, 1, 0])
