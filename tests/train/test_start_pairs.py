"""Whole runs on pairs: every encoder-decoder learns, a resume is exact, the mean of weights is the mean."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from genus.prepare import prepare
from genus.prepare.dataset import Dataset
from genus.run import Run, load
from genus.train import average
from genus.train.average import Average
from genus.train.options import TrainOptions
from genus.train.start import resume, start

SMALL = ("dim=32", "depth=1", "heads=2")
SIZES = {"rnnsearch": ("dim=24", "hidden=32"), "rnn-encoder-decoder": ("dim=24", "hidden=32")}


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """300 words of few letters, and the same in capitals."""
    folder = tmp_path_factory.mktemp("pairs")
    dice = random.Random(1)
    words = ["".join(dice.choices("abcd", k=dice.randint(2, 7))) for _ in range(400)]
    (folder / "a.tsv").write_text("".join(f"{w}\t{w.upper()}\n" for w in words), encoding="utf-8")
    return prepare(folder / "a.tsv", folder / "data", pairs=True, tokenizer="bytes", validation=0.1, test=0, workers=1)


def train(recipe: str, data: Dataset, out: Path, *more: str, **options: Any) -> Run:
    options = {"batch": 16, "context": 16, "epochs": 10, "dtype": "fp32", **options}
    sizes = SIZES.get(recipe, SMALL)
    return start(recipe, data.root, out, TrainOptions(overrides=(*sizes, *more), **options), quiet)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.mark.parametrize(
    "recipe", ["rnnsearch", "rnn-encoder-decoder", "transformer", "encoder-decoder-pre-norm", "encoder-decoder-residual"]
)
def test_loss_falls_and_the_run_is_complete(recipe: str, pairs: Dataset, tmp_path: Path) -> None:
    run = train(recipe, pairs, tmp_path / "run", lr=3e-3)
    evaluations = [r for r in run.metrics() if r.get("kind") == "eval"]
    assert evaluations[0]["loss"] > 5 and evaluations[-1]["loss"] < 2.2  # uniform over 257 ids is 5.55 nats
    assert evaluations[0]["targets"] == pairs.split("validation").tokens
    loaded = load(tmp_path / "run")
    assert loaded.spec == load(tmp_path / "run").spec and loaded.tokenizer is not None
    assert sum(p.numel() for p in loaded.model.parameters()) == run.config["parameters"]


def test_passes_are_passes(pairs: Dataset, tmp_path: Path) -> None:
    """The budget counts the targets that a batch of pairs has, not the positions it has room for."""
    run = train("transformer", pairs, tmp_path / "run", epochs=3)
    trained = run.config["finished"]["steps"] * 16 * 16
    assert trained > 3 * pairs.split("train").tokens
    logged = [r for r in run.metrics() if "tokens_per_s" in r]
    assert logged[-1]["lr"] > 0


def test_accumulation_is_one_batch(pairs: Dataset, tmp_path: Path) -> None:
    for name, micro in (("whole", 16), ("pieces", 2)):
        train("rnnsearch", pairs, tmp_path / name, epochs=1, micro=micro)
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "pieces")
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize("recipe", ["rnnsearch", "encoder-decoder-pre-norm"])
def test_resume_is_bitwise_the_straight_run(recipe: str, pairs: Dataset, tmp_path: Path) -> None:
    """Dropout, the order of the pairs, and the mean of the last weights."""
    options = {"dropout": 0.2, "save_steps": 12, "epochs": 4, "average": 5}
    straight = train(recipe, pairs, tmp_path / "straight", **options)
    train(recipe, pairs, tmp_path / "cut", **options)
    steps = straight.config["finished"]["steps"]
    assert not (tmp_path / "cut/checkpoints/average").exists()
    folder = tmp_path / "cut/checkpoints"
    shutil.rmtree(folder / f"step-{steps}")
    left = sorted(int(f.name.removeprefix("step-")) for f in folder.glob("step-*"))
    assert left and left[-1] < 0.92 * steps  # before the first of the points
    shutil.rmtree(tmp_path / "cut/model")
    run = Run.open(tmp_path / "cut")
    del run.config["finished"]
    run.save()
    resume(tmp_path / "cut", quiet)
    a, b = weights(tmp_path / "straight"), weights(tmp_path / "cut")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_mean_is_the_mean(pairs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[dict[str, torch.Tensor]] = []
    take, apply = Average.take, Average.apply

    def noting(self: Average, step: int, model: torch.nn.Module) -> None:
        kept.append({k: v.detach().clone() for k, v in model.named_parameters()})
        take(self, step, model)

    def noting_too(self: Average, model: torch.nn.Module) -> list[int]:
        kept.append({k: v.detach().clone() for k, v in model.named_parameters()})
        return apply(self, model)

    monkeypatch.setattr(Average, "take", noting)
    monkeypatch.setattr(Average, "apply", noting_too)
    monkeypatch.setattr(average, "SPACING", 0.1)
    run = train("transformer", pairs, tmp_path / "run", epochs=2, average=3)
    assert len(kept) == 3
    model = load(tmp_path / "run").model
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, sum(each[name] for each in kept) / 3)
    assert any("the mean of the weights" in r.get("message", "") for r in run.metrics())


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    points = Average(tmp_path, 5)
    due = [i for i in range(1, 1001) if points.due((i - 1) / 1000, i / 1000)]
    assert due == [920, 940, 960, 980]
    model = torch.nn.Linear(2, 2)
    for step in (920, 940):
        points.take(step, model)
    points.forget_after(930)
    assert points.apply(model) == [920]
    with pytest.raises(ValueError, match="at most 25"):
        Average(tmp_path, 30)


def test_wishes_that_cannot_be_met(pairs: Dataset, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n" * 30, encoding="utf-8")
    single = prepare(
        tmp_path / "a.txt", tmp_path / "single", tokenizer="bytes", split_documents="line", keep_repeats=True, workers=1
    )
    with pytest.raises(ValueError, match="genus prepare --pairs"):
        train("rnnsearch", single, tmp_path / "run")
    with pytest.raises(ValueError, match="--average or --patience"):
        TrainOptions(average=3, patience=2)
    with pytest.raises(ValueError, match="longer than --context 2"):
        train("rnnsearch", pairs, tmp_path / "run", context=2)
