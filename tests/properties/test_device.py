"""Every recipe on a device that is not the processor (see pretended.py): it trains, is saved, evaluated and generates there."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from genus import recipes
from genus.doctor import timing
from genus.doctor import tour as touring
from genus.evaluate import evaluate, evaluate_denoising
from genus.evaluate.denoising import fills_in
from genus.generate.engine import Engine
from genus.generate.sampling import Sampling
from genus.generate.sequence import Request
from genus.ops.dropout import dropout
from genus.prepare import prepare
from genus.prepare.dataset import Dataset
from genus.prepare.tokenizer import bytes_tokenizer
from genus.recipes.sizes import takes
from genus.run import Loaded, Run, load
from genus.train import start as starting
from genus.train.guard import SETTLE
from genus.train.options import TrainOptions
from genus.train.trainer import Trainer

from ..pretended import DEVICE, There, Wait, pretended

UPDATES = 2
NAMES = [name for name in recipes.names() if not recipes.find(name).counted]
# An update waits for nothing but the number of rows of each expert, and of the different words that are spelled.
WAITS = ("parts/moe.py", "ops/distinct.py", "train/figures.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Dataset]:
    """Short documents, of which some share a row; and, for True, pairs of texts."""
    folder = tmp_path_factory.mktemp("data")
    dice = random.Random(5)
    words = ["".join(dice.choices("abcdefgh", k=dice.randint(2, 60))) for _ in range(100)]
    (folder / "texts.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    (folder / "pairs.tsv").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words), encoding="utf-8")
    options: dict[str, Any] = {"tokenizer": "bytes", "workers": 1, "keep_repeats": True}
    prepare([folder / "texts.txt"], folder / "texts", split_documents="line", **options)
    prepare([folder / "pairs.tsv"], folder / "pairs", pairs=True, **options)
    return {False: Dataset.open(folder / "texts"), True: Dataset.open(folder / "pairs")}


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "matmul_ceiling", lambda *_: 1e12)


@pytest.fixture
def there() -> Iterator[list[Wait]]:
    with pretended() as waits:
        yield waits


def sizes(name: str) -> dict[str, int]:
    wanted = {"dim": 16, "depth": 2, "heads": 2, "hidden": 16, "experts": 2, "window": 5}
    return {key: value for key, value in wanted.items() if key in takes(recipes.find(name))}


def train(name: str, data: dict[bool, Dataset], out: Path, updates: int = UPDATES, **options: Any) -> Run:
    chosen = {
        "batch": 2,
        "context": 48,
        "tokens": 2 * 48 * updates,
        "eval_tokens": 96,
        "dtype": "fp32",
        "dropout": 0.0,
        **options,
    }
    overrides = tuple(f"{key}={value}" for key, value in sizes(name).items())
    pairs = recipes.make(name).objective.pairs  # type: ignore[attr-defined]
    return starting.start(name, data[pairs].root, out, TrainOptions(overrides=overrides, **chosen), lambda _: None)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_it_trains(name: str, data: dict[bool, Dataset], tmp_path: Path) -> None:
    """To what a run on the processor comes to; and the program waits for the device nowhere but where it must."""
    with pretended() as waits:
        run = train(name, data, tmp_path / "there")
    train(name, data, tmp_path / "here")
    found, expected = weights(tmp_path / "there"), weights(tmp_path / "here")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if key.endswith("k_proj.bias"):  # it moves all scores of a query alike: its gradient is what rounding leaves
            continue
        torch.testing.assert_close(found[key], value, atol=2e-3, rtol=1e-2, msg=lambda m, key=key: f"{key}: {m}")
    update = [wait for wait in waits if any(" launch" in place for place in wait.places)]
    assert [wait for wait in update if not wait.places[-1].startswith(WAITS)] == []
    assert sum(wait.places[-1].startswith("train/figures.py") for wait in update) == run.config["finished"]["steps"]


@pytest.mark.parametrize("name", [system.name for system in recipes.systems() if system.generates and not system.counted])
def test_it_generates(name: str, there: list[Wait]) -> None:
    """What it does on the processor, with prompts of different lengths, some of which are longer than its window."""
    torch.manual_seed(1)
    spec = recipes.make(name, **sizes(name), vocab=257, context=64).model
    model = spec.build().eval()  # type: ignore[call-arg]
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.normal_(std=0.3 * min(1.0, 16 / p.shape[-1]) ** 0.5)
    prompts = [(256, *b"In the beginning"), (256, 71), (256, *b"And God said, Let there")]
    options = [{"sampling": Sampling(0)}, {"sampling": Sampling(0)}, {"sampling": Sampling(0.8, top_k=20, top_p=0.9), "seed": 3}]
    asked = [Request(prompt, max_tokens=6, **more) for prompt, more in zip(prompts, options)]  # type: ignore[arg-type]
    found = []
    for device in (torch.device("cpu"), DEVICE):
        loaded = Loaded(model.to(device), spec, bytes_tokenizer(), Path("nowhere"), {})
        with torch.inference_mode():
            found.append({i: row.new_ids for i, _, row in Engine(loaded.model, bytes_tokenizer()).run(asked)})
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["gpt2", "lstm", "gated-deltanet", "bert", "t5"])
def test_it_goes_on_and_is_evaluated(name: str, data: dict[bool, Dataset], there: list[Wait], tmp_path: Path) -> None:
    """A run with dropout that was cut short is that of a run that was not; loading and evaluating ends on the device too."""
    for run in ("straight", "cut"):
        train(name, data, tmp_path / run, updates=4, dropout=0.1, save_steps=2)
    cut = Run.open(tmp_path / "cut")
    for path in (cut.checkpoints_dir / "step-4", cut.model_dir):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    del cut.config["finished"]
    cut.save()
    starting.resume(tmp_path / "cut", lambda _: None)
    found, expected = weights(tmp_path / "cut"), weights(tmp_path / "straight")
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    loaded = load(tmp_path / "cut")
    if fills_in(loaded):
        assert math.isfinite(evaluate_denoising(loaded, data[False]).figure("loss").value)
    else:
        assert math.isfinite(evaluate(loaded, data[False], beside=False).model.bits_per_byte)
    assert all(isinstance(p, There) for p in loaded.model.parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
def test_an_update_is_refused_there(
    optimizer: str, data: dict[bool, Dataset], there: list[Wait], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients that are no numbers, or far too large, change nothing, though the program learns of them an update later."""
    taken: list[dict[str, torch.Tensor]] = []
    launch = Trainer.launch

    def spoilt(trainer: Trainer) -> None:
        step = trainer.progress.step
        trainer.guard.seen = max(trainer.guard.seen, SETTLE)
        factor = {1: math.nan, 2: 1e4}.get(step, 1.0)
        with monkeypatch.context() as patch:
            loss = trainer.loss
            patch.setattr(trainer, "loss", lambda *a: (loss(*a)[0] * factor, None))
            launch(trainer)
        taken.append({name: p.detach().cpu().clone() for name, p in trainer.model.named_parameters()})

    monkeypatch.setattr(Trainer, "launch", spoilt)
    run = train("gpt2", data, tmp_path / "run", updates=4, optimizer=optimizer)
    same = [all(torch.equal(a[name], b[name]) for name in a) for a, b in pairwise(taken)]
    assert same == [True, True, False]
    assert run.config["finished"]["refused_updates"] == 2
    told = [r["message"] for r in run.metrics() if r.get("kind") == "event"]
    assert "not a number" in told[0] and "times the usual" in told[1]
    assert [r["step"] for r in run.metrics() if r.get("kind") == "event"] == [1, 2]


def test_the_doctor_looks_there(there: list[Wait], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of work, at sizes at which it is quick; what an operation does there is what its definition does."""
    monkeypatch.setattr(touring, "READ", 8)
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    small = {"dim": 64, "heads": 2, "hidden": 96, "vocab": 70, "context": 32}
    works = [
        replace(work, sizes={key: small.get(key, value) for key, value in work.sizes.items()}, rows=2, time=min(work.time, 24))
        for work in touring.WORKS
    ]
    seen = touring.tour(DEVICE, [replace(work, source=min(work.source, 24)) for work in works])
    assert {each.op for each in seen} >= {"attention", "document_attention", "fast_weights", "linear", "linear_cross_entropy"}
    for each in seen:
        assert timing.measure(each, DEVICE).right, each


def test_what_a_gpu_refuses_is_refused(there: list[Wait]) -> None:
    x = torch.ones(3, device=DEVICE)
    with pytest.raises(RuntimeError, match="two devices"):
        x + torch.ones(3)
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device=DEVICE, generator=torch.Generator())
    with pytest.raises((TypeError, RuntimeError), match="numpy"):
        x.numpy()
    with pytest.raises(RuntimeError):
        x.data_ptr()
    assert there == [] and (x + torch.tensor(1.0)).device == DEVICE
    assert x.tolist() == [1, 1, 1] and bool(x.any()) and len(x[x > 0]) == 3 and len(there) == 3


def test_dropout_draws_there(there: list[Wait]) -> None:
    x = torch.ones(1000, device=DEVICE, requires_grad=True)
    y = dropout(x, 0.25)
    y.sum().backward()
    assert dropout.chosen(x, 0.25) == "reference" and x.grad is not None
    assert torch.equal(x.grad.cpu(), y.detach().cpu()) and 600 < int((y > 0).sum()) < 900
