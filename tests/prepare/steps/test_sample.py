"""Samples and limits: what is kept depends on the texts and the seed alone."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from genus.prepare import steps
from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.known import digests
from genus.prepare.steps.limit import Limit
from genus.prepare.steps.sample import Sample


def batch(texts: list[str]) -> pa.RecordBatch:
    return next(batches_of(map(Document, texts)))


TEXTS = [f"document number {i}" for i in range(4000)]


def sampled(texts: list[str], share: float, seed: int = 0) -> set[str]:
    return set(Sample(share, seed).ready()(batch(texts)).batch.column("text").to_pylist())


def test_a_share_is_kept_whatever_stands_around() -> None:
    tenth = sampled(TEXTS, 0.1)
    assert 330 < len(tenth) < 470  # 5 standard deviations around 400
    shuffled = TEXTS[:]
    random.Random(3).shuffle(shuffled)
    assert sampled(shuffled, 0.1) == tenth and tenth < sampled(TEXTS, 0.3)
    assert sampled(TEXTS[:1000], 0.1) == tenth & set(TEXTS[:1000])
    assert sampled(TEXTS, 1.0) == set(TEXTS)


def test_seeds_choose_others() -> None:
    one, two = sampled(TEXTS, 0.5, 1), sampled(TEXTS, 0.5, 2)
    assert 800 < len(one & two) < 1200
    assert steps.parse(["sample:share=0.5"], seed=7) == (Sample(0.5, 7),)


def test_the_sample_is_spread_over_the_splits() -> None:
    """Splits look at the same hash; a sample that did so in the same way would be all of one split."""
    kept = digests(Sample(0.1, 0).ready()(batch(TEXTS)).batch)
    for column in (0, 1):
        places = kept[:, column] / 2.0**64
        assert np.histogram(places, 4, (0, 1))[0].min() > len(kept) / 8


def test_drops_are_told() -> None:
    outcome = Sample(0.5).ready()(batch(TEXTS))
    assert len(outcome.drops) + outcome.batch.num_rows == len(TEXTS)
    assert {drop.reason for drop in outcome.drops} == {"not in the sample"}


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_shares_that_are_none(share: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        Sample(share)


def limited(units: list[list[str]], folder: Path, **settings: float) -> list[str]:
    folder.mkdir(exist_ok=True)
    step = Limit(**settings)
    observed = [(number, step.observe(batch(texts))) for number, texts in enumerate(units)]
    facts = step.decide(observed, folder, 0)
    assert 0 < facts["share of the hashes"] <= 1
    return [
        text
        for number, texts in enumerate(units)
        for text in step.apply(folder, number)(batch(texts)).batch.column("text").to_pylist()
    ]


@pytest.mark.parametrize("documents", [1, 2, 1000, 3999, 4000, 9999])
def test_exactly_so_many_documents(documents: int, tmp_path: Path) -> None:
    units = [TEXTS[:1500], TEXTS[1500:]]
    kept = limited(units, tmp_path / "a", documents=documents)
    assert len(kept) == min(documents, 4000)
    assert kept == limited([TEXTS], tmp_path / "b", documents=documents), "units do not matter"


def test_at_most_so_many_bytes(tmp_path: Path) -> None:
    dice = random.Random(0)
    texts = [f"{i} " + "汉" * dice.randint(1, 300) for i in range(3000)]
    total = sum(len(text.encode()) for text in texts)
    small = limited([texts], tmp_path / "a", megabytes=0.3 * total / 1e6)
    large = limited([texts], tmp_path / "b", megabytes=0.6 * total / 1e6)
    size = sum(len(text.encode()) for text in small)
    assert 0.3 * total - 1000 < size <= 0.3 * total and set(small) < set(large)
    assert len(limited([texts], tmp_path / "c", megabytes=1e-9)) == 1, "never nothing"
    both = limited([texts], tmp_path / "d", megabytes=0.6 * total / 1e6, documents=100)
    assert len(both) == 100 and set(both) < set(small)


def test_repeats_stay_or_go_together(tmp_path: Path) -> None:
    kept = limited([["a", "b", "c", "d"] * 10], tmp_path, documents=25)
    assert sorted(kept.count(each) for each in "abcd") == [0, 0, 10, 10]


def test_limits_that_are_none() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Limit(documents=0)
    with pytest.raises(ValueError, match="say how much"):
        Limit().observe(batch(TEXTS))
