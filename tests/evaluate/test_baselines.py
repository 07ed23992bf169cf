"""The n-gram and xz that stand beside a result."""

from __future__ import annotations

import lzma
import math
import os
import shutil
from pathlib import Path

import pytest

from genus.evaluate import baselines
from genus.evaluate.baselines import compressed, counted
from genus.evaluate.texts import Documents
from genus.prepare.dataset import Dataset


def _silent(*_: object) -> None:
    pass


@pytest.fixture
def copy(data: Dataset, tmp_path: Path) -> Dataset:
    shutil.copytree(data.root, tmp_path / "data", ignore=shutil.ignore_patterns(".cache"))
    return Dataset.open(tmp_path / "data")


def test_the_n_gram_is_fitted_once(copy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(copy, 3, _silent) as (model, about):
        assert model.spec.order == 3 and f"{copy.split('train').tokens:,} training tokens" in about
        first = model.spec.grams
    assert os.listdir(copy.root / ".cache") == [f"ngram-3-{copy.fingerprint.rpartition(':')[2][:16]}"]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(baselines, "estimate", never)
    with counted(copy, 3, _silent) as (model, _):
        assert model.spec.grams == first
    with pytest.raises(AssertionError, match="fitted again"), counted(copy, 2, _silent):  # another order is another model
        pass
    Dataset.open(copy.root, verify=True)  # the cache does not disturb the data


def test_a_folder_that_cannot_be_written(copy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines.os, "access", lambda *_: False)
    with counted(copy, 2, _silent) as (model, about):
        assert model.spec.order == 2 and "kept" not in about
    assert not any((copy.root / ".cache").iterdir())


def test_a_very_long_training_split_is_cut(copy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "COUNTED", 500)
    with counted(copy, 2, _silent) as (_, about):
        assert 300 < int(about.split()[-6 if "kept" in about else -3].replace(",", "")) <= 500


def test_xz(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Documents.choose(data, "validation", None)
    primed, cold, before, size = compressed(chosen)
    text = "\n".join(chosen.texts()).encode()
    assert size == len(text) and before > 1000
    assert 0.5 < primed < cold < 8
    container = 8 * len(lzma.compress(text, preset=9)) / len(text)
    assert cold == pytest.approx(container, rel=0.05)  # the .xz file has a header, an index and a checksum more
    monkeypatch.setattr(baselines, "COMPRESSED", 400)
    assert compressed(chosen)[3] == 400


def test_xz_without_training_text(data: Dataset) -> None:
    """The training split is not primed with itself."""
    primed, cold, before, _ = compressed(Documents.choose(data, "train", None))
    assert before == 0 and primed == cold and math.isfinite(cold)


def test_priming_takes_the_end_of_the_training_text(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "PRIMED", 900)
    sizes = []
    size = baselines._size
    monkeypatch.setattr(baselines, "_size", lambda text: sizes.append(text) or size(text))
    compressed(Documents.choose(data, "validation", 3))
    train = data.split("train")
    last = data.tokenizer.decode(train.document(train.documents - 1)[:-1].tolist())
    before = min(sizes, key=lambda t: abs(len(t) - 900))
    assert len(before) <= 900 and before.endswith(last.encode())
