"""Histograms: exact sums in any order, the bins of the manifest, the use of a vocabulary."""

import json
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.prepare import histograms
from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps.step import set_column
from genus.prepare.tokenizer import build

TEXTS = ["a" * n for n in (1, 2, 3, 5, 8, 100, 100, 1000)] + ["明月" * 50]


def batch(texts: list[str], languages: list[str | None] | None = None, scores: list[float] | None = None) -> pa.RecordBatch:
    documents = [Document(text, language=None if languages is None else languages[i]) for i, text in enumerate(texts)]
    (made,) = batches_of(documents)
    return made if scores is None else set_column(made, "classifier", scores)


def test_lengths_are_in_characters_and_each_in_its_bin() -> None:
    done = histograms.finish(histograms.of_batch(batch(TEXTS)))["length"]
    edges, counts = done["edges"], done["counts"]
    assert len(edges) == len(counts) + 1 and sum(counts) == len(TEXTS)
    for low, high, count in zip(edges, edges[1:], counts):
        assert count == sum(low <= len(text) < high for text in TEXTS)


def test_languages_and_scores_are_columns() -> None:
    found = histograms.of_batch(batch(["a", "b", "c"], ["en", None, "en"], [0.25, 0.251, float("nan")]))
    assert found["language"] == {"en": 2, "?": 1}
    assert found["classifier"] == {"0.25": 2}
    assert "language" not in histograms.of_batch(batch(["a"]))
    done = histograms.finish(found)
    assert done["classifier"]["edges"][0] == 0 and done["classifier"]["edges"][-1] == 1
    assert done["classifier"]["counts"][12] == 2 and sum(done["classifier"]["counts"]) == 2
    assert json.loads(json.dumps(done)) == done


@given(parts=st.lists(st.lists(st.integers(1, 5000), min_size=1, max_size=9), min_size=1, max_size=5), seed=st.integers())
@settings(max_examples=30, deadline=None)
def test_the_sum_does_not_depend_on_batches_or_their_order(parts: list[list[int]], seed: int) -> None:
    whole = histograms.of_batch(batch(["x" * n for part in parts for n in part]))
    random.Random(seed).shuffle(parts)
    merged: histograms.Counts = {}
    for part in parts:
        merged = histograms.merge(merged, histograms.of_batch(batch(["x" * n for n in part])))
    assert histograms.finish(merged) == histograms.finish(whole)


def test_numbers_keep_two_digits() -> None:
    assert histograms.of_values([0.123, 0.125, -0.001, 1.0, 12.4, 127.0, 1234.0, float("inf")]) == {
        "0": 1, "0.12": 2, "1": 1, "12": 1, "130": 1, "1200": 1,
    }  # fmt: skip
    assert histograms.counts("score", [0.5, 0.501]) == {"score=0.5": 2}


def test_values_beyond_one_get_bins_of_their_own_and_outliers_the_last() -> None:
    done = histograms.spread({float(n): 10 for n in range(10, 110)} | {1e9: 1})
    assert done["edges"][0] == 10 and done["edges"][-1] < 200 and sum(done["counts"]) == 1001


def test_only_the_most_frequent_languages_are_named() -> None:
    found = {"language": {f"l{i}": 100 - i for i in range(60)}}
    done = histograms.finish(found)["language"]
    assert len(done) == histograms.SHOWN_LANGUAGES + 1 and done["l0"] == 100
    assert sum(done.values()) == sum(found["language"].values())


@pytest.mark.parametrize("kind", ["bpe", "unigram", "chars", "words"])
def test_the_use_of_a_vocabulary(kind: str) -> None:
    text = [f"the cat and the dog, the end 明月明月 鑫 {chr(0x6211 + i)}" for i in range(30)]
    tokenizer = build(kind, text, 0, vocab=300 if kind in ("bpe", "unigram") else None, min_count=1 if kind != "words" else 40)
    tokens = histograms.Tokens(tokenizer.vocab_size)
    ids, _ = tokenizer.encode_documents(text)
    for part in np.array_split(ids.astype(np.uint16), 7):
        tokens.add(part)
    done = tokens.finish(tokenizer)
    assert done["tokens"] == len(ids) - len(text)  # end tokens are no text
    assert done["entries"] == tokenizer.vocab_size - 1
    assert done["used"] == len(set(ids.tolist()) - {tokenizer.eos_id})
    assert done["coverage"][-1] == [done["entries"], 1.0]
    shares = [share for _, share in done["coverage"]]
    assert shares == sorted(shares) and done["coverage"][0][1] == round(done["ranks"][0][1] / done["tokens"], 6)
    assert sum(row[0] for row in done["kinds"].values()) == done["entries"]
    assert abs(sum(row[2] for row in done["kinds"].values()) - 1) < 1e-4
    assert len(done["unused"]) == min(histograms.EXAMPLES, done["entries"] - done["used"])
    if kind == "words":
        assert done["unknown"] == 30 * 7 and done["frequent"][0][0] == "<unk>"
    else:
        assert done["unknown"] == 0
    if kind == "bpe":
        assert done["kinds"]["part of a character"][2] > 0 and done["frequent"][0][0].strip()
    if kind == "unigram":
        assert done["kinds"]["Chinese"][1] >= 3
    if kind == "chars":
        assert done["kinds"]["Chinese"][1] == 33
