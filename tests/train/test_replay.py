"""Replay: an exact share of old rows, a pure function of the step, and a resume that is the straight run."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genus.parts.ctx import PADDING
from genus.prepare import prepare
from genus.prepare.dataset import Dataset
from genus.train.loader import Windows
from genus.train.options import TrainOptions
from genus.train.replay import Mixed, Replay, mixed
from genus.train.start import resume, start

SIZES = ("dim=32", "depth=2", "heads=2")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Digits: nothing in common with the corpus of words."""
    folder = tmp_path_factory.mktemp("old")
    (folder / "text.txt").write_text("".join(f"{i * 7919} {i * 104729}\n" for i in range(400)), encoding="utf-8")
    prepare([folder / "text.txt"], folder / "data", tokenizer="bytes", split_documents="line")
    return Dataset.open(folder / "data")


def windows(data: Dataset, batch: int = 4) -> Windows:
    return Windows(data.split("train"), 32, batch, data.tokenizer.bos_id, seed=3)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_the_share_is_exact_and_each_part_keeps_its_order(corpus: Dataset, old: Dataset, share: float) -> None:
    loader = Mixed(windows(corpus), windows(old), share)
    rows = [loader(step) for step in range(25)]
    new_documents = corpus.split("train").documents
    is_old = torch.cat([(r.doc.amax(1) >= new_documents) for r in rows])
    assert int(is_old.sum()) == int(100 * share + 1e-9)
    for n in range(1, 101):
        assert int(is_old[:n].sum()) <= n * share + loader.batch
    tokens = torch.cat([r.tokens for r in rows])
    straight = torch.cat([windows(corpus)(step).tokens for step in range(25)])
    assert torch.equal(tokens[~is_old], straight[: int((~is_old).sum())])
    earlier = torch.cat([windows(old)(step).tokens for step in range(25)])
    assert torch.equal(tokens[is_old], earlier[: int(is_old.sum())])
    assert all(bool(((r.doc == PADDING) | (r.doc >= 0)).all()) and len(r.begins) == 4 for r in rows)


def test_a_batch_is_a_function_of_its_number(corpus: Dataset, old: Dataset) -> None:
    loader = Mixed(windows(corpus), windows(old), 0.3)
    later, again = loader(17), Mixed(windows(corpus), windows(old), 0.3)(17)
    assert all(torch.equal(getattr(later, n), getattr(again, n)) for n in ("tokens", "doc", "previous", "begins"))
    assert loader.steps_per_epoch == pytest.approx(windows(corpus).steps_per_epoch / 0.7)


def test_shares_and_rows_that_cannot_be(corpus: Dataset, old: Dataset) -> None:
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match="less than 1"):
            Replay(str(old.root), share)
    with pytest.raises(ValueError, match=r"training\.stream=false"):
        mixed(object(), windows(old), 0.1)


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_resume_is_the_straight_run(
    name: str, corpus: Dataset, old: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(_: str) -> None: ...

    base = tmp_path / "base"
    start(name, corpus.root, base, TrainOptions(tokens=512, batch=4, context=32, overrides=SIZES), say)
    options = TrainOptions(tokens=2048, batch=4, context=32, save_steps=7, eval_every=1e9)
    replay = Replay(str(old.root), 0.3)
    straight = start(str(base), corpus.root, tmp_path / "straight", options, say, replay=replay)
    assert straight.config["replay"]["share"] == 0.3 and straight.config["replay"]["fingerprint"] == old.fingerprint

    from genus.train import trainer

    real: Callable = trainer.Trainer.launch

    def interrupted(self: trainer.Trainer) -> None:
        if self.progress.step == 10:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(trainer.Trainer, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(str(base), corpus.root, tmp_path / "broken", options, say, replay=replay)
    monkeypatch.setattr(trainer.Trainer, "launch", real)
    resume(tmp_path / "broken", say)
    a, b = ((tmp_path / n / "model" / "model.safetensors").read_bytes() for n in ("straight", "broken"))
    assert a == b
