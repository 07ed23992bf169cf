"""Whole runs: loss falls, resume is exact, sums equal one large batch, wishes that cannot be met are refused."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from genus.ops import native
from genus.prepare import prepare
from genus.prepare.dataset import Dataset
from genus.run import Run, load
from genus.train.compiled import compiled
from genus.train.options import TrainOptions
from genus.train.start import resume, start
from genus.train.trainer import Trainer

SMALL = ("dim=32", "depth=2", "heads=2")


def quiet(_: str) -> None:
    pass


def train(recipe: str, data: Dataset, out: Path, *sizes: str, **options: Any) -> Run:
    options = {"batch": 8, "context": 32, "tokens": 8 * 32 * 30, "eval_tokens": 2048, "dtype": "fp32", **options}
    return start(recipe, data.root, out, TrainOptions(overrides=sizes, **options), quiet)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    x, y = weights(a), weights(b)
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


@pytest.mark.parametrize("recipe", ["gpt2", "lstm", "nnlm", "deltanet", "llama"])
def test_loss_falls_and_the_run_is_complete(recipe: str, corpus: Dataset, run_folder: Path) -> None:
    sizes = {"lstm": ("dim=48", "depth=1"), "nnlm": ("dim=24",)}.get(recipe, SMALL)
    run = train(recipe, corpus, run_folder, *sizes, lr=4e-3)
    evaluations = [r["loss"] for r in run.metrics() if r.get("kind") == "eval"]
    assert evaluations[0] > 5 and evaluations[-1] < 3.2  # uniform over 257 ids is 5.55 nats
    assert run.config["finished"]["tokens"] == pytest.approx(8 * 32 * 30, rel=0.02)
    loaded = load(run_folder)
    assert loaded.tokenizer is not None and sum(p.numel() for p in loaded.model.parameters()) == run.config["parameters"]
    lines = [r for r in run.metrics() if "tokens_per_s" in r]
    assert lines and all(
        r["bpb"] == pytest.approx(r["loss"] / math.log(2) * corpus.split("train").tokens / corpus.split("train").bytes)
        for r in lines
    )


@pytest.mark.parametrize(("recipe", "sizes"), [("gpt2", SMALL), ("lstm", ("dim=32", "depth=2"))])
def test_resume_is_bitwise_the_straight_run(recipe: str, sizes: tuple[str, ...], corpus: Dataset, tmp_path: Path) -> None:
    """Dropout, carried state and the optimiser all go on where they stopped."""
    options = {"dropout": 0.2, "save_steps": 7, "tokens": 8 * 32 * 20}
    train(recipe, corpus, tmp_path / "straight", *sizes, **options)
    train(recipe, corpus, tmp_path / "cut", *sizes, **options)
    run = Run.open(tmp_path / "cut")
    for late in (tmp_path / "cut/checkpoints").glob("step-20"):
        _remove(late)
    _remove(tmp_path / "cut/model")
    del run.config["finished"]
    run.config["threads"] += 1
    run.save()
    said: list[str] = []
    again = resume(tmp_path / "cut", said.append)
    assert said[0].startswith("threads: 1, and the run began with 2")
    assert same(tmp_path / "straight", tmp_path / "cut")
    assert again.config["finished"]["steps"] == 20
    steps = [r["step"] for r in again.metrics() if "tokens_per_s" in r]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment_and_resumed(seed: int, corpus: Dataset, tmp_path: Path) -> None:
    """SIGKILL to the real command at points that differ from run to run; the final weights do not."""
    words = ["gpt2", str(corpus.root), *SMALL, "--batch", "8", "--context", "32", "--tokens", str(8 * 32 * 60)]
    words += ["--save-steps", "3", "--eval-tokens", "512", "--dtype", "fp32", "--dropout", "0.1", "--no-sample"]
    _genus("train", *words, "-o", str(tmp_path / "straight"))
    process = _start("train", *words, "-o", str(tmp_path / "cut"))
    kills = 0
    for attempt in range(6):
        _wait_for_steps(tmp_path / "cut", process, 5 + 9 * attempt * seed)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        process = _start("train", "--resume", str(tmp_path / "cut"), "--no-sample")
    assert process.wait(timeout=120) == 0
    assert kills >= 1
    assert same(tmp_path / "straight", tmp_path / "cut")


def test_micro_batches_sum_to_one_large_batch(corpus: Dataset, tmp_path: Path) -> None:
    for micro in (1, 8):
        train("gpt2", corpus, tmp_path / str(micro), *SMALL, micro=micro, tokens=8 * 32 * 5)
    a, b = weights(tmp_path / "1"), weights(tmp_path / "8")
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5)


def test_zaremba_is_trained_as_published(corpus: Dataset, tmp_path: Path) -> None:
    run = train("zaremba", corpus, tmp_path / "z", batch=4, context=20, tokens=4 * 20 * 10)
    training = run.config["recipe"]["training"]
    assert training["optimizer"]["part"] == "SGD" and training["sum_over_time"] and training["clip"] == 5.0
    assert run.config["lr"] == 1.0
    assert run.config["finished"]["validation"]["loss"] < 5.55


def test_muon_and_cosine_train(corpus: Dataset, run_folder: Path) -> None:
    run = train("llama", corpus, run_folder, *SMALL, optimizer="muon", schedule="cosine", lr=4e-3)
    assert run.config["finished"]["validation"]["loss"] < 3.2


def test_bf16_keeps_fp32_masters(corpus: Dataset, run_folder: Path) -> None:
    run = train("llama", corpus, run_folder, *SMALL, dtype="bf16", lr=4e-3)
    assert run.config["finished"]["validation"]["loss"] < 3.2
    assert all(t.dtype == torch.float32 for t in weights(run_folder).values())


def test_a_time_budget_ends_the_run(corpus: Dataset, run_folder: Path) -> None:
    run = train("gpt2", corpus, run_folder, *SMALL, tokens=None, seconds=3.0)
    assert run.config["steps"] is None and run.config["finished"]["steps"] > 3
    rates = [r["lr"] for r in run.metrics() if "lr" in r]
    assert rates[-1] < max(rates)  # the decay belongs to the budget


def test_continued_training_of_a_run_and_of_a_model_folder(corpus: Dataset, tmp_path: Path) -> None:
    first = train("gpt2", corpus, tmp_path / "first", *SMALL, lr=4e-3)
    before = first.config["finished"]["validation"]["loss"]
    for source in (tmp_path / "first", tmp_path / "first" / "model"):
        out = tmp_path / f"from-{source.name}"
        again = start(
            str(source),
            corpus.root,
            out,
            TrainOptions(batch=8, context=32, tokens=4000, eval_tokens=2048, lr=1e-3, dtype="fp32"),
            quiet,
        )
        evaluations = [r["loss"] for r in again.metrics() if r.get("kind") == "eval"]
        assert evaluations[0] == pytest.approx(before, abs=0.02)
        assert evaluations[-1] < before


def test_another_tokenizer_is_refused(corpus: Dataset, tmp_path: Path) -> None:
    train("gpt2", corpus, tmp_path / "first", *SMALL, tokens=600)
    (tmp_path / "b.txt").write_text("hello there " * 400)
    prepare([tmp_path / "b.txt"], tmp_path / "chars", tokenizer="chars")
    with pytest.raises(ValueError, match="--tokenizer"):
        start(str(tmp_path / "first"), tmp_path / "chars", tmp_path / "x", TrainOptions(tokens=600), quiet)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("gpt22", {}, "did you mean 'gpt2'"),
        ("gpt2", {"overrides": ("dmi=32",)}, "did you mean 'dim'"),
        ("gpt2", {"overrides": ("model.stack.detph=3",)}, "did you mean 'depth'"),
        ("gpt2", {"parameters": 1000}, "too few"),
        ("gpt2", {"overrides": ("dim=30", "depth=1", "heads=4")}, "does not divide"),
        ("gpt2", {"overrides": ("dim=32", "depth=1", "heads=4", "training.stream=true")}, "constant-size state"),
    ],
)
def test_wishes_that_cannot_be_met(recipe: str, options: Any, message: str, corpus: Dataset, run_folder: Path) -> None:
    with pytest.raises(ValueError, match=message):
        start(recipe, corpus.root, run_folder, TrainOptions(tokens=1000, **options), quiet)
    assert not run_folder.exists()


def test_two_budgets_are_refused() -> None:
    with pytest.raises(ValueError, match="one budget"):
        TrainOptions(tokens=5, seconds=5)


def test_a_run_is_not_overwritten(corpus: Dataset, run_folder: Path) -> None:
    train("gpt2", corpus, run_folder, *SMALL, tokens=600)
    with pytest.raises(FileExistsError, match="--resume"):
        train("gpt2", corpus, run_folder, *SMALL, tokens=600)
    with pytest.raises(ValueError, match="finished"):
        resume(run_folder, quiet)


def test_not_a_number_is_refused_and_logged(corpus: Dataset, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer._batch

    def poisoned(self: Trainer, data: Any, step: int) -> Any:
        true = self.recipe.objective.loss  # type: ignore[attr-defined]

        def nan(*arguments: Any) -> Any:
            total, count = true(*arguments)
            return total * math.nan, count

        self.loss = nan if data is self.data and step == 3 else true
        return original(self, data, step)

    monkeypatch.setattr(Trainer, "_batch", poisoned)
    run = train("gpt2", corpus, run_folder, *SMALL, lr=4e-3)
    events = [r["message"] for r in run.metrics() if r.get("kind") == "event"]
    assert any("refused" in e for e in events) and run.config["finished"]["refused_updates"] == 1
    assert run.config["finished"]["validation"]["loss"] < 3.2


def test_early_stop_keeps_the_best_weights(corpus: Dataset, run_folder: Path) -> None:
    """A learning rate that destroys what was learnt: the run ends early, with the weights of its best evaluation."""
    options = {"lr": 3.0, "patience": 2, "eval_every": 0.0, "tokens": 8 * 32 * 500}
    run = train("gpt2", corpus, run_folder, *SMALL, **options)
    losses = [r["loss"] for r in run.metrics() if r.get("kind") == "eval"]
    assert run.config["finished"]["steps"] < 100
    assert any("stopping early" in r.get("message", "") for r in run.metrics())
    assert losses[-1] == min(losses) < losses[-2]
    assert run.config["finished"]["validation"]["loss"] == losses[-1]


def test_a_counted_run_that_was_killed_is_counted_again(corpus: Dataset, tmp_path: Path) -> None:
    straight = start("ngram", corpus.root, tmp_path / "straight", TrainOptions(overrides=("order=3",)), quiet)
    killed = Run.create(tmp_path / "killed", {k: v for k, v in straight.config.items() if k != "finished"})
    killed.config["recipe"]["model"]["grams"] = []
    killed.save()
    again = resume(tmp_path / "killed", quiet)
    assert again.config["finished"]["validation"] == straight.config["finished"]["validation"]


def test_without_a_compiler_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Any:
        def fail(*_: Any) -> Any:
            raise RuntimeError("no C++ compiler found")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    said: list[str] = []
    run = compiled(lambda x: x + 1, said.append)
    assert [run(1), run(2)] == [2, 3]
    assert said == ["torch.compile failed (no C++ compiler found); going on without it, at the plain speed"]


@pytest.mark.parametrize(("missing", "told"), [("", 1), ("there is no C compiler", 0)])
def test_compiled_code_does_without_the_kernels(
    missing: str, told: int, corpus: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function: function)
    monkeypatch.setattr(native, "reason", lambda _: missing)
    train("llama", corpus, tmp_path / "run", *SMALL, tokens=8 * 32 * 2, compile=True)
    assert "".join(capfd.readouterr()).count("kernels in C do not run in compiled code") == told


def _remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def _start(*words: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "genus", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _genus(*words: str) -> None:
    assert _start(*words).wait(timeout=120) == 0


def _wait_for_steps(run: Path, process: subprocess.Popen[bytes], steps: int) -> None:
    """Until a checkpoint of at least so many steps lies there, or the process has ended."""
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        for state in list((run / "checkpoints").glob("step-*/state.json")):
            with contextlib.suppress(FileNotFoundError):  # a checkpoint that has just made room for a newer one
                if json.loads(state.read_text())["step"] >= steps:
                    return
        time.sleep(0.01)
