"""The newest checkpoint of a run that still trains is a model that can be looked at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from genus.prepare.dataset import Dataset
from genus.run import Run, load
from genus.train.checkpoint import complete
from genus.train.options import TrainOptions
from genus.train.start import start
from genus.train.unfinished import unfinished

BUDGET = {"batch": 8, "context": 32, "tokens": 8 * 32 * 6, "save_steps": 4, "eval_tokens": 512, "dtype": "fp32"}


def train(source: str, data: Dataset, out: Path, *sizes: str) -> Run:
    return start(source, data.root, out, TrainOptions(overrides=sizes, **BUDGET), lambda _: None)


def interrupted(run: Run) -> Path:
    """The same run, before its model was written."""
    shutil.rmtree(run.model_dir)
    del run.config["finished"]
    run.save()
    return run.path


@pytest.mark.parametrize(
    ("recipe", "sizes"),
    [
        ("gpt2", ("dim=32", "depth=1", "heads=2")),
        ("bert", ("dim=32", "depth=1", "heads=2")),
        ("char-lstm", ("dim=32", "depth=1")),
    ],
)
def test_its_model_is_that_of_the_newest_checkpoint(recipe: str, sizes: tuple[str, ...], corpus: Dataset, tmp_path: Path) -> None:
    run = train(recipe, corpus, tmp_path / "run", *sizes)
    finished = load(run.path)
    assert unfinished(run.path) is None
    young = unfinished(interrupted(run))
    assert young is not None and young.step == 6
    found = young.load()
    ids = torch.arange(40, 60)[None]
    assert not found.model.training and found.tokenizer is not None and finished.tokenizer is not None
    assert torch.equal(found.model(ids), finished.model(ids))
    assert found.tokenizer.fingerprint == finished.tokenizer.fingerprint
    shutil.rmtree(complete(run.checkpoints_dir)[-1])
    before = unfinished(run.path)
    assert before is not None and before.step == 4
    assert not torch.equal(before.load().model(ids), finished.model(ids))


def test_one_that_goes_on_from_another_has_that_ones_tokenizer(corpus: Dataset, tmp_path: Path) -> None:
    train("gpt2", corpus, tmp_path / "base", "dim=32", "depth=1", "heads=2")
    run = train(str(tmp_path / "base"), corpus, tmp_path / "run")
    finished = load(run.path)
    young = unfinished(interrupted(run))
    assert young is not None
    ids = torch.arange(40, 60)[None]
    assert torch.equal(young.load().model(ids), finished.model(ids))
    assert young.tokenizer is not None and finished.tokenizer is not None
    assert young.tokenizer.fingerprint == finished.tokenizer.fingerprint


def test_what_has_no_checkpoint_is_none(corpus: Dataset, tmp_path: Path) -> None:
    assert unfinished(tmp_path) is None
    run = train("gpt2", corpus, tmp_path / "run", "dim=32", "depth=1", "heads=2")
    shutil.rmtree(run.checkpoints_dir)
    assert unfinished(interrupted(run)) is None


def test_other_data_is_refused(corpus: Dataset, tmp_path: Path) -> None:
    run = train("gpt2", corpus, tmp_path / "run", "dim=32", "depth=1", "heads=2")
    run.config["data"]["fingerprint"] = "another"
    with pytest.raises(ValueError, match="is not the data this run began with"):
        unfinished(interrupted(run))
