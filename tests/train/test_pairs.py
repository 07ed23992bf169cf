"""Batches of pairs: all of them, once a pass, little padding, the same after any resume."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from genus.objectives.seq2seq import Seq2Seq
from genus.prepare import prepare
from genus.prepare.dataset import Dataset, Split
from genus.train.pairs import Pairs


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """1,000 pairs of 2 to 80 tokens; a target is its source backwards, with a word more or less."""
    folder = tmp_path_factory.mktemp("pairs")
    dice = random.Random(3)
    lines = []
    for _ in range(1000):
        letters = "".join(dice.choices("abcdefgh", k=min(79, 1 + int(dice.expovariate(1 / 20)))))
        lines.append(f"{letters}\t{letters[::-1] + 'z' * dice.randint(0, len(letters) // 4)}\n")
    (folder / "a.tsv").write_text("".join(lines), encoding="utf-8")
    return prepare(
        folder / "a.tsv", folder / "data", pairs=True, tokenizer="chars", validation=0, test=0, keep_repeats=True, workers=1
    )


@pytest.fixture
def split(data: Dataset) -> Split:
    return data.split("train")


def _targets(loader: Pairs, steps: range) -> list[bytes]:
    return [np.concatenate([s, t]).tobytes() for i in steps for s, t in zip(loader(i).sources, loader(i).targets, strict=True)]


def test_a_pass_has_every_pair_once(split: Split) -> None:
    loader = Pairs(split, 128, 8, 0)
    assert split.source is not None
    every = sorted(np.concatenate([split.source.document(i), split.document(i)]).tobytes() for i in range(split.documents))
    n = loader.steps_per_epoch
    first, second = (_targets(loader, range(a, a + n)) for a in (0, n))
    assert sorted(first) == sorted(second) == every
    assert first != second


def test_source_and_target_belong_together(data: Dataset, split: Split) -> None:
    rows = Pairs(split, 128, 8, 0)(3)
    for source, target in zip(rows.sources, rows.targets, strict=True):
        assert data.tokenizer.decode(target).rstrip("z") == data.tokenizer.decode(source)[::-1]


def test_batches_are_full_and_hold_little_padding(split: Split) -> None:
    loader = Pairs(split, 128, 8, 0)
    filled = 0
    sizes = []
    for i in range(loader.steps_per_epoch):
        batch = Seq2Seq().batch(loader(i))
        assert batch.source is not None
        assert max(batch.source.numel(), batch.inputs.numel()) <= 8 * 128
        sizes.append(batch.count)
        filled += batch.source.numel() + batch.inputs.numel()
    real = split.tokens + (split.source.tokens if split.source else 0)
    assert real / filled > 0.85
    assert sum(sizes) == split.tokens and sorted(sizes)[1] > 0.6 * max(sizes)  # one may be what is left
    assert loader.targets_per_batch == pytest.approx(sum(sizes) / len(sizes))


def test_a_batch_is_a_function_of_its_number(split: Split) -> None:
    one, other = Pairs(split, 128, 8, 0, seed=1), Pairs(split, 128, 8, 0, seed=1)
    list(map(one, range(200)))
    assert _targets(one, range(77, 79)) == _targets(other, range(77, 79))
    assert _targets(Pairs(split, 128, 8, 0, seed=2), range(77, 79)) != _targets(one, range(77, 79))


def test_validation_rows_stay(split: Split) -> None:
    loader = Pairs(split, 128, 8, 0, shuffle=False)
    n = loader.steps_per_epoch
    assert _targets(loader, range(n)) == _targets(loader, range(n, 2 * n))


def test_long_pairs_are_left_out(split: Split) -> None:
    loader = Pairs(split, 40, 8, 0)
    assert 0 < loader.left_out == split.documents - sum(len(members) for members, _ in loader.buckets)
    assert max(len(t) for i in range(loader.steps_per_epoch) for t in loader(i).targets) <= 40
    with pytest.raises(ValueError, match="the shortest takes 2 positions"):
        Pairs(split, 1, 8, 0)


def test_single_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n" * 30, encoding="utf-8")
    single = prepare(
        tmp_path / "a.txt", tmp_path / "data", tokenizer="bytes", split_documents="line", keep_repeats=True, workers=1
    )
    with pytest.raises(ValueError, match="genus prepare --pairs"):
        Pairs(single.split("train"), 64, 8, 0)
