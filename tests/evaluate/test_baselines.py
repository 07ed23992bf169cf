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


@pytest.fixture
def copy(data: Dataset, tmp_path: Path) -> Dataset:
    shutil.copytree(data.root, tmp_path / "data", ignore=shutil.ignore_patterns(".cache"))
    return Dataset.open(tmp_path / "data")


def test_the_n_gram_is_fitted_once(copy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(copy, 3) as (model, about):
        assert model.spec.order == 3 and f"{copy.split('train').tokens:,} training tokens" in about
        first = model.spec.grams
    assert os.listdir(copy.root / ".cache") == [f"ngram-3-{copy.fingerprint.rpartition(':')[2][:16]}"]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(baselines, "estimate", never)
    with counted(copy, 3) as (model, _):
        assert model.spec.grams == first
    with pytest.raises(AssertionError, match="fitted again"), counted(copy, 2):  # another order is another model
        pass
    Dataset.open(copy.root, verify=True)  # the cache does not disturb the data


def test_a_folder_that_cannot_be_written(copy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines.os, "access", lambda *_: False)
    with counted(copy, 2) as (model, about):
        assert model.spec.order == 2 and "kept" not in about
    assert not any((copy.root / ".cache").iterdir())


def test_a_very_long_training_split_is_cut(copy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "COUNTED", 500)
    with counted(copy, 2) as (_, about):
        assert 300 < int(about.split()[-6 if "kept" in about else -3].replace(",", "")) <= 500


def test_xz(copy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Documents.choose(copy, "validation", None)
    found = compressed(chosen)
    text = "\n".join(chosen.texts()).encode()
    assert found.size == len(text) and found.before > 1000
    assert 0.5 < found.primed < found.cold < 8
    container = 8 * len(lzma.compress(text, preset=9)) / len(text)
    assert found.cold == pytest.approx(container, rel=0.05)  # the .xz file has a header, an index and a checksum more
    monkeypatch.setattr(baselines, "COMPRESSED", 400)
    assert compressed(chosen).size == 400


def test_xz_runs_once(copy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compressed(Documents.choose(copy, "validation", None))
    monkeypatch.setattr(baselines, "_size", lambda text: 1)
    assert compressed(Documents.choose(copy, "validation", None)) == first
    assert compressed(Documents.choose(copy, "validation", 7)) != first  # other documents, other figure
    assert compressed(Documents.choose(copy, "test", None)) != first


def test_xz_without_training_text(copy: Dataset) -> None:
    """The training split is not primed with itself."""
    found = compressed(Documents.choose(copy, "train", None))
    assert found.before == 0 and found.primed == found.cold and math.isfinite(found.cold)


def test_priming_takes_the_end_of_the_training_text(copy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "PRIMED", 900)
    seen = []
    monkeypatch.setattr(baselines, "_size", lambda text: seen.append(text) or len(text))
    compressed(Documents.choose(copy, "validation", 3))
    train = copy.split("train")
    last = copy.tokenizer.decode(train.document(train.documents - 1)[:-1].tolist()).encode()
    text, both, before = seen
    assert len(before) == 900 and before.endswith(last) and both == before + text
