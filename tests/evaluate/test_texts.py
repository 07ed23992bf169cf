"""The documents that are evaluated, in tokens, in text, and in another tokenizer's tokens."""

from __future__ import annotations

import numpy as np
import pytest

from genus.evaluate import texts as texts_module
from genus.evaluate.texts import Documents
from genus.prepare.dataset import Dataset


def test_texts_are_the_originals(data: Dataset) -> None:
    chosen = Documents.choose(data, "validation", None)
    found = list(chosen.texts())
    assert [len(t.encode()) for t in found] == chosen.bytes.tolist()
    chosen.count()
    assert chosen.words == sum(len(t.split()) for t in found)
    assert chosen.characters == sum(map(len, found))
    assert chosen.chinese == sum("一" <= c <= "鿿" for t in found for c in t) > 100
    assert chosen.lengths.sum() == data.split("validation").tokens
    assert all(t[-1] == data.tokenizer.eos_id for t in chosen.tokens())


def test_some_documents_evenly_spaced(data: Dataset) -> None:
    held = data.split("validation").documents
    chosen = Documents.choose(data, "validation", 5)
    assert len(chosen.numbers) == len(set(chosen.numbers)) == 5 and chosen.numbers[-1] >= 0.7 * held
    assert len(Documents.choose(data, "validation", 10**6).numbers) == held
    with pytest.raises(ValueError, match="--documents must be at least 1"):
        Documents.choose(data, "validation", 0)


@pytest.mark.parametrize("size", [1, 2**20])
def test_another_tokenizer(data: Dataset, other_tokenizer: Dataset, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts_module, "CHARACTERS", size)
    chosen = Documents.choose(data, "validation", None)
    encoded = list(chosen.encoded(other_tokenizer.tokenizer))
    assert chosen.changed == 0
    for ids, text in zip(encoded, chosen.texts(), strict=True):
        np.testing.assert_array_equal(ids, [*text.encode(), other_tokenizer.tokenizer.eos_id])


def test_missing_split(data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"no 'dev' split .*it has: train, validation, test"):
        Documents.choose(data, "dev", None)
