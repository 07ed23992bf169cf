"""Whole runs of encoders and encoder-decoders: they learn, resume bit for bit, and their folders open."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from genus.evaluate import evaluate_denoising
from genus.objectives.causal import Causal
from genus.prepare.dataset import Dataset
from genus.recipes import find, names
from genus.run import Run, load
from genus.spec import from_json
from genus.train import choose
from genus.train.options import TrainOptions
from genus.train.start import resume, start

SIZES = ("dim=32", "depth=2", "heads=2")
ENCODERS = ("bert", "roberta", "albert", "t5", "t5-v1-1", "ul2")


def quiet(_: str) -> None:
    pass


def train(recipe: str, data: Path, out: Path, *more: str, updates: int = 30, **options) -> Run:
    options = {"batch": 8, "context": 64, "tokens": 8 * 64 * updates, "eval_tokens": 2048, "dtype": "fp32", "lr": 4e-3} | options
    return start(recipe, data, out, TrainOptions(overrides=(*SIZES, *more), **options), quiet)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def evaluations(run: Run) -> list[dict]:
    return [r for r in run.metrics() if r.get("kind") == "eval"]


@pytest.mark.parametrize("recipe", ENCODERS)
def test_it_learns_and_the_run_is_complete(recipe: str, corpus: Dataset, run_folder: Path) -> None:
    run = train(recipe, corpus.root, run_folder)
    told = evaluations(run)
    assert told[-1]["loss"] < 0.85 * told[0]["loss"] and not any("bpb" in r for r in run.metrics())
    assert told[-1]["accuracy"] > 0.05 and told[0]["targets"] == told[-1]["targets"]
    loaded = load(run_folder)
    objective = from_json(run.config["recipe"]).objective
    assert loaded.tokenizer.extends(corpus.tokenizer) and loaded.tokenizer.vocab_size == loaded.spec.embed.vocab
    assert all(loaded.tokenizer.role(role) is not None for role in objective.symbols)
    assert sum(p.numel() for p in loaded.model.parameters()) == run.config["parameters"]
    assert run.config["finished"]["validation"]["loss"] == told[-1]["loss"]
    result = evaluate_denoising(run_folder, corpus)
    again = evaluate_denoising(run_folder, corpus)
    held = corpus.split("validation").tokens
    assert result.context == 64 and 0.8 * held < result.tokens < 1.6 * held  # ends are left out, frames and sentinels come in
    assert result.figures == again.figures and 0 < result.figure("loss").value < told[0]["loss"]
    assert result.figure("accuracy").count == result.figure("loss").count and any("not bits per byte" in n for n in result.notes)


@pytest.mark.parametrize(("recipe", "more"), [("bert", ("objective.whole_words=true",)), ("t5", ())])
def test_resume_is_bitwise_the_straight_run(recipe: str, more: tuple[str, ...], corpus: Dataset, tmp_path: Path) -> None:
    """Masks, pairs and spans of an update are the same after any interruption."""
    options = {"updates": 12, "dropout": 0.2, "save_steps": 5}
    train(recipe, corpus.root, tmp_path / "straight", *more, **options)
    train(recipe, corpus.root, tmp_path / "cut", *more, **options)
    run = Run.open(tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step-12")
    shutil.rmtree(tmp_path / "cut" / "model")
    del run.config["finished"]
    run.save()
    again = resume(tmp_path / "cut", quiet)
    a, b = weights(tmp_path / "straight"), weights(tmp_path / "cut")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert again.config["finished"]["steps"] == 12


def test_accumulation(corpus: Dataset, tmp_path: Path) -> None:
    for micro in (1, 8):
        train("bert", corpus.root, tmp_path / str(micro), micro=micro, updates=3)
    a, b = weights(tmp_path / "1"), weights(tmp_path / "8")
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5)


def test_validation_is_the_same_for_every_seed(corpus: Dataset, tmp_path: Path) -> None:
    runs = [train("bert", corpus.root, tmp_path / str(seed), seed=seed, updates=1) for seed in (0, 1)]
    counts = [[r["targets"] for r in evaluations(run)] for run in runs]
    assert counts[0] == counts[1] and len(set(counts[0])) == 1


def test_early_stop(corpus: Dataset, run_folder: Path) -> None:
    run = train("roberta", corpus.root, run_folder, lr=3.0, patience=2, eval_every=0.0, updates=500)
    losses = [r["loss"] for r in evaluations(run)]
    assert run.config["finished"]["steps"] < 100 and losses[-1] == min(losses)


def test_it_goes_on_from_a_run_and_from_its_folder(corpus: Dataset, tmp_path: Path) -> None:
    first = train("bert", corpus.root, tmp_path / "first")
    before = first.config["finished"]["validation"]["loss"]
    for source in (tmp_path / "first", tmp_path / "first" / "model"):
        out = tmp_path / f"from-{source.name}"
        options = TrainOptions(batch=8, context=64, tokens=3000, eval_tokens=2048, lr=1e-4, dtype="fp32")
        again = start(str(source), corpus.root, out, options, quiet)
        assert evaluations(again)[0]["loss"] == pytest.approx(before, abs=1e-3)
        assert from_json(again.config["recipe"]).objective == from_json(first.config["recipe"]).objective


def test_a_run_of_ours_reads_its_positions_from_the_first(corpus: Dataset, run_folder: Path) -> None:
    """Hugging Face's RoBERTa begins them behind the id of padding, which in a tokenizer of ours is not 1."""
    run = train("roberta", corpus.root, run_folder, updates=1)
    assert from_json(run.config["recipe"]).model.embed.positions.offset == 0
    assert json.loads((run.model_dir / "config.json").read_text())["model_type"] == "bert"


@pytest.mark.parametrize(
    ("recipe", "more", "message"),
    [
        ("bert", ("objective=Causal",), "needs a model that sees only what came before"),
        ("gpt2", ("objective=Masked",), "needs a model that sees all of the text"),
        ("bert", ("objective=Spans",), "needs a model that sees a source"),
        ("roberta", ("objective.sentences=NextSentence",), "needs a second read-out"),
        ("bert", ("objective.rate=1.5",), "between 0 and 1"),
        ("bert", ("objective.rte=0.3",), "did you mean 'rate'"),
    ],
)
def test_what_does_not_fit_is_refused(
    recipe: str, more: tuple[str, ...], message: str, corpus: Dataset, run_folder: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        train(recipe, corpus.root, run_folder, *more)
    assert not run_folder.exists()


def test_the_objective_is_known_before_the_size() -> None:
    def of(name: str, *overrides: str):
        return choose.objective(name, TrainOptions(overrides=overrides))

    assert of("bert", "objective.rate=0.3", "dim=32").rate == 0.3 and of("bert", "sentences=false").sentences is None
    assert of("gpt2", "model.dim=48") == Causal()
    assert {n for n in names() if not find(n).counted and of(n).reads == "all"} >= {"bert", "roberta", "albert", "distilbert"}
