"""Planning with small runs whose outcome is known: everything but the training is real."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genus.evaluate.probes import ProbeResult
from genus.plan import frame, planning, prices, qualify
from genus.plan.branches import branch
from genus.plan.machine import costs
from genus.plan.machine.costs import Rung
from genus.plan.machine.measured import Calibration, Setting
from genus.plan.machine.model import Cell, CountCell
from genus.plan.options import PlanOptions
from genus.plan.planning import plan
from genus.plan.store import Plan
from genus.plan.trials.trial import Point, Result, Trial
from genus.prepare.dataset import Dataset

LAWS = {  # E, A, B, alpha, beta of bits per byte
    "llama": (1.0, 30.0, 60.0, 0.35, 0.4),
    "gpt2": (1.0, 36.0, 72.0, 0.35, 0.4),
    "lstm": (1.6, 60.0, 90.0, 0.35, 0.4),
}
SPEED = 2e10  # operations per second of a process
OPTIONS = PlanOptions(branches=("ngram", "llama", "gpt", "lstm"), context=32, batch=2, share=0.3, cores=2)


def truth(recipe: str, params: float, tokens: float) -> float:
    if recipe == "ngram":
        return 2.2 + 40 * tokens**-0.35
    e, a, b, alpha, beta = LAWS[recipe]
    return e + a * params**-alpha + b * tokens**-beta


@dataclass
class Oracle:
    """A runner that knows the outcome. `spoil` may change a result."""

    name: str = "oracle"
    workers: int = 2
    ran: list[Trial] = field(default_factory=list)
    spoil: Callable[[Trial, Result], Result] = lambda trial, result: result

    def run(self, trials: Iterable[Trial], folder: str | Path) -> Iterator[Result]:
        for trial in trials:
            result = self.spoil(trial, self.result(trial))
            if result.final:
                result.write(folder)
            self.ran.append(trial)
            yield result

    def result(self, trial: Trial) -> Result:
        rng = np.random.default_rng(int(trial.key[:8], 16))
        if trial.recipe == "ngram":
            points = tuple(Point(h, 1.0, truth("ngram", 0, h), 1e-6 * h, h, parameters=h) for h in trial.horizons)
            return Result(trial, "done", points=points, parameters={"total": trial.horizons[-1]}, seconds=1.0)
        recipe = costs.sized(trial.recipe, trial.parameters or 0, 256, trial.context, trial.batch)
        count = costs.parameters(recipe.model)
        flops = 3 * recipe.model.flops(0, trial.context)
        worse = 1 + 0.02 * math.log2(trial.lr_factor) ** 2
        points = tuple(
            Point(
                tokens=h,
                loss=1.0,
                bpb=worse * truth(trial.recipe, count.total, h) * math.exp(0.003 * rng.standard_normal()),
                seconds=flops * h / SPEED,
                unique_tokens=h,
                flops=flops * h,
            )
            for h in trial.horizons
        )
        named = {"total": count.total, "non_embedding": count.non_embedding, "effective": count.effective}
        return Result(trial, "done", points=points, parameters=named, initial=8.0, seconds=points[-1].seconds)


def calibration(name: str, data: Dataset, seconds: float, setting: Setting, **_: Any) -> Calibration:
    """A machine on which every branch runs at the same speed."""
    found = branch(name)
    empty = {
        "name": name,
        "recipe": found.recipe,
        "kind": found.kind,
        "machine": {},
        "threads": setting.threads,
        "processes": setting.processes,
        "vocab": 256,
        "context": setting.context,
        "dtype": "fp32",
        "tokens": data.split("train").tokens,
        "ceiling": 4 * SPEED,
    }
    if found.kind == "counted":
        counts = tuple(CountCell(n, 0.01 + 1e-6 * n, 0.0, n, 10**8, 10**8 + n) for n in (10_000, 20_000, 40_000))
        return Calibration(**empty, counts=counts, decode=1e-4)
    cells = [cell(r, setting, rows) for r in costs.ladder(found.recipe, 256, setting.context, 3e4, 1e6, 3, 2) for rows in (1, 2)]
    return Calibration(**empty, cells=tuple(cells))


def cell(rung: Rung, setting: Setting, rows: int) -> Cell:
    model = rung.recipe.model
    memory = costs.training_memory(rung.recipe, rows, 4)
    return Cell(
        total=rung.total,
        non_embedding=rung.non_embedding,
        effective=rung.effective,
        forward=rung.forward,
        layers=costs.sublayers(model),
        numbers=costs.activations(model, setting.context),
        rows=rows,
        context=setting.context,
        micro=rows,
        fixed=memory.fixed,
        moving=memory.moving,
        tokens_per_s=SPEED * setting.threads / rung.training,
        spread=0.0,
        busy=1.0,
        base=10**8,
        peak=10**8 + memory.fixed + memory.moving,
        evaluation=None,
        decode=1e-4,
        read=rung.decoding.read,
    )


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Oracle:
    made = Oracle()
    monkeypatch.setattr(planning.runners, "open", lambda engine, cores: made)
    monkeypatch.setattr(prices, "measure", calibration)
    monkeypatch.setattr(frame, "matmul_ceiling", lambda dtype, device: 4 * SPEED)
    monkeypatch.setenv("GENUS_CALIBRATION", str(tmp_path / "calibration.json"))
    return made


@pytest.fixture
def large(corpus: Dataset, tmp_path: Path) -> Dataset:
    """The corpus with a manifest that says ten million training tokens, which no small run here reads."""
    folder = shutil.copytree(corpus.root, tmp_path / "large")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["splits"]["train"]["tokens"] = 10_000_000
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return Dataset.open(folder)


def test_the_best_branch_is_found_and_its_loss_foretold(oracle: Oracle, large: Dataset, tmp_path: Path) -> None:
    made = plan(large.root, 900.0, tmp_path / "plan", OPTIONS, lambda text: None)
    best = made.recommendation
    assert best.branch == "llama"
    actual = truth("llama", best.params, best.tokens)
    assert best.low <= actual <= best.high and abs(best.loss / actual - 1) < 0.05
    assert made.branches["lstm"].status == "dropped" and "above all of" in made.branches["lstm"].reason
    assert best.options["tokens"] == int(best.tokens) and best.options["batch"] == 2
    assert {c.name for c in made.alternatives} == {"llama-half", "llama-double"}
    assert (tmp_path / "plan" / "report.html").stat().st_size > 10_000
    assert Plan.open(tmp_path / "plan") == made


TWO = replace(OPTIONS, branches=("ngram", "gpt"))


def test_a_stopped_plan_goes_on_where_it_was(oracle: Oracle, large: Dataset, tmp_path: Path) -> None:
    def stop(trial: Trial, result: Result) -> Result:
        if len(oracle.ran) == 7:
            raise KeyboardInterrupt
        return result

    oracle.spoil = stop
    with pytest.raises(KeyboardInterrupt):
        plan(large.root, 600.0, tmp_path / "plan", TWO, lambda text: None)
    before = {t.key for t in oracle.ran}
    assert len(before) == 7
    oracle.spoil, oracle.ran = lambda trial, result: result, []
    made = plan(large.root, 600.0, tmp_path / "plan", TWO, lambda text: None)
    assert oracle.ran and not before & {t.key for t in oracle.ran}
    assert made.recommendation.branch == "gpt"


def test_what_diverges_is_not_recommended(oracle: Oracle, large: Dataset, tmp_path: Path) -> None:
    def spoil(trial: Trial, result: Result) -> Result:
        return (
            replace(result, status="diverged", reason="loss 9 after 100 tokens", points=()) if trial.recipe == "gpt2" else result
        )

    oracle.spoil = spoil
    said: list[str] = []
    made = plan(large.root, 600.0, tmp_path / "plan", TWO, said.append)
    assert made.recommendation.branch == "ngram"
    assert made.branches["gpt"].status == "failed" and "no learning rate was found that trains it" in made.branches["gpt"].reason
    assert any("diverged: loss 9" in line for line in said)


def test_a_small_corpus_is_counted(oracle: Oracle, corpus: Dataset, tmp_path: Path) -> None:
    made = plan(corpus.root, 600.0, tmp_path / "plan", replace(TWO, batch=64), lambda text: None)
    assert made.recommendation.branch == "ngram" and made.recommendation.tokens == corpus.split("train").tokens
    assert made.branches["gpt"].status == "refused" and "longer than the corpus" in made.branches["gpt"].reason


def test_a_budget_in_which_nothing_can_be_measured(corpus: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a budget of 30 s is too short for small runs.*genus train ngram"):
        plan(corpus.root, 30.0, tmp_path / "plan", TWO)
    assert not (tmp_path / "plan").exists()


def test_a_finished_plan_is_not_made_again(corpus: Dataset, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}", encoding="utf-8")
    with pytest.raises(FileExistsError, match="genus train"):
        plan(corpus.root, 600.0, tmp_path, TWO)


def test_a_plan_may_aim_at_a_probe(oracle: Oracle, large: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt = {"ngram": 0.02, "gpt2": 0.95, "llama": 0.97}

    def score(recipe: str, probe: str, seconds: float, seed: int) -> ProbeResult:
        assert probe == "recall"
        return ProbeResult(probe, "train", recipe, learnt[recipe], "recalled", 1.0, "loss", {}, (), "")

    monkeypatch.setattr(qualify, "probe_score", score)
    options = replace(OPTIONS, branches=("ngram", "gpt", "llama"), target="recall")
    made = plan(large.root, 600.0, tmp_path / "plan", options, lambda text: None)
    assert made.branches["ngram"].status == "refused" and "llama reaches 0.970" in made.branches["ngram"].reason
    assert made.branches["gpt"].best is not None and made.recommendation.branch == "llama"


@pytest.mark.parametrize(("target", "reason"), [("recal", "did you mean 'recall'"), ("induction", "reads a trained model")])
def test_a_target_that_is_none(corpus: Dataset, tmp_path: Path, target: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        plan(corpus.root, 600.0, tmp_path / "plan", replace(TWO, target=target))
