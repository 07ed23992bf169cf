"""One trajectory gives what straight runs give; a trial is kept, goes on after a kill, and says in words what went wrong."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from genus.plan.trials import counted as counted_trial
from genus.plan.trials import trajectory, trial
from genus.plan.trials.counted import Share
from genus.plan.trials.trajectory import train_options
from genus.plan.trials.trial import Result, Trial, run_trial
from genus.prepare.dataset import Dataset
from genus.train.options import TrainOptions
from genus.train.start import start
from genus.train.trainer import Trainer

STEP = 8 * 32  # tokens of one update


def tiny(data: Dataset, recipe: str = "gpt2", **changes: Any) -> Trial:
    sizes = {"lstm": ("dim=16", "depth=1"), "ngram": ("order=3",)}.get(recipe, ("dim=16", "depth=1", "heads=2"))
    standard = {"horizons": (20 * STEP, 35 * STEP, 60 * STEP), "context": 32, "batch": 8, "eval_tokens": 2048, "dtype": "fp32"}
    return Trial(recipe, None, data=str(data.root), fingerprint=data.fingerprint, **{**standard, "overrides": sizes, **changes})


def quiet(_: str) -> None:
    pass


def losses(result: Result) -> list[float]:
    return [p.loss for p in result.points]


@pytest.mark.parametrize(
    ("recipe", "more"),
    [("gpt2", ("model.stack.blocks.0.dropout=0.1",)), ("lstm", ()), ("llama", ("training.optimizer=Muon",))],
)
def test_every_horizon_is_the_straight_run(recipe: str, more: tuple[str, ...], corpus: Dataset, tmp_path: Path) -> None:
    """Weights and validation loss, bit for bit: dropout, carried state, both optimisers."""
    wanted = tiny(corpus, recipe, lr_factor=2.0)
    wanted = replace(wanted, overrides=(*wanted.overrides, *more))
    weights = {}
    original = Trainer.validate

    def remember(self: Trainer) -> Any:
        weights[self.progress.step] = {k: v.clone() for k, v in self.model.state_dict().items()}
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "validate", remember)
        result = run_trial(wanted, tmp_path / "trials")
    assert result.status == "done", result.reason
    assert result.initial is not None and losses(result)[-1] < result.initial
    for point, horizon in zip(result.points, wanted.horizons, strict=True):
        run = start(recipe, corpus.root, tmp_path / str(horizon), train_options(wanted, horizon, corpus), quiet)
        final = run.config["finished"]
        assert final["validation"] == {"loss": point.loss, "bpb": point.bpb}
        assert final["tokens"] == point.tokens
        straight = load_file(run.checkpoints_dir / f"step-{final['steps']}" / "model.safetensors")
        assert all(torch.equal(straight[k], weights[final["steps"]][k]) for k in straight)
    assert not (tmp_path / "trials" / wanted.key / "checkpoints").exists()


def test_a_finished_trial_costs_nothing(corpus: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = tiny(corpus, horizons=(20 * STEP,))
    first = run_trial(wanted, tmp_path)
    monkeypatch.setattr(Trainer, "update", None)
    assert run_trial(wanted, tmp_path) == first
    assert Result.from_json(json.loads(json.dumps(first.to_json()))) == first


def test_the_key_follows_the_content_and_not_the_place(corpus: Dataset) -> None:
    one = tiny(corpus)
    assert replace(one, data="/elsewhere").key == one.key
    others = [{"lr_factor": 2.0}, {"seed": 1}, {"horizons": (STEP,)}, {"fingerprint": "x"}, {"overrides": ()}, {"batch": 4}]
    assert len({one.key, *(replace(one, **change).key for change in others)}) == 1 + len(others)


def test_a_killed_trial_goes_on_from_its_last_horizon(corpus: Dataset, tmp_path: Path) -> None:
    """SIGKILL in the second decay, an interrupt in the trunk after it: the same figures as without."""
    wanted = tiny(corpus)
    straight = run_trial(wanted, tmp_path / "straight")
    code = (
        "import os, signal, sys; from genus.plan.trials import trial; from genus.train.trainer import Trainer\n"
        "update = Trainer.update\n"
        "def cut(self):\n"
        "    if self.progress.step == 33: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return update(self)\n"
        "Trainer.update = cut; trial.main(sys.argv[1:])"
    )
    words = [sys.executable, "-c", code, json.dumps(wanted.to_json()), str(tmp_path / "cut")]
    assert subprocess.run(words, capture_output=True).returncode == -signal.SIGKILL
    partial = tmp_path / "cut" / wanted.key / trajectory.PARTIAL
    assert len(json.loads(partial.read_text())["points"]) == 1
    seen: list[int] = []
    update = Trainer.update

    def watched(self: Trainer) -> Any:
        seen.append(self.progress.step)
        if self.progress.step == 45 and seen.count(45) == 1:
            raise KeyboardInterrupt
        return update(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "update", watched)
        with pytest.raises(KeyboardInterrupt):
            run_trial(wanted, tmp_path / "cut")
        assert len(json.loads(partial.read_text())["points"]) == 2
        again = run_trial(wanted, tmp_path / "cut")
    assert losses(again) == losses(straight) and again.initial == straight.initial
    assert min(seen) == 28  # where the second decay began: its trunk was kept
    assert seen.count(30) == 3  # the second decay, the trunk, and the trunk again


def test_a_rate_that_is_far_too_high_is_a_divergence(corpus: Dataset, tmp_path: Path) -> None:
    result = run_trial(tiny(corpus, lr_factor=1e4), tmp_path)
    assert result.status == "diverged" and "before the first" in result.reason
    assert result.final and run_trial(result.trial, tmp_path) == result


def test_not_a_number_is_a_divergence_and_earlier_points_stay(
    corpus: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.update

    def poisoned(self: Trainer) -> Any:
        if self.progress.step == 25:  # behind the first horizon, on the trunk
            with torch.no_grad():
                next(self.model.parameters()).fill_(torch.nan)
        return original(self)

    monkeypatch.setattr(Trainer, "update", poisoned)
    result = run_trial(tiny(corpus, horizons=(20 * STEP, 200 * STEP)), tmp_path)
    assert result.status == "diverged" and "refused" in result.reason and "--lr" not in result.reason
    assert len(result.points) == 1


def test_a_full_disk_is_said_and_can_be_repeated(corpus: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    wanted = tiny(corpus, horizons=(20 * STEP, 30 * STEP))
    with monkeypatch.context() as patch:
        patch.setattr(trajectory, "write_atomic", full)
        result = run_trial(wanted, tmp_path)
        assert result.status == "failed" and "disk is full" in result.reason and not result.final
    with monkeypatch.context() as patch:
        patch.setattr("genus.train.checkpoint.save_file", full)
        assert "disk is full" in run_trial(wanted, tmp_path).reason
    assert run_trial(wanted, tmp_path).status == "done"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprint": "another"}, "its fingerprint differs"),
        ({"data": "/nowhere"}, "no prepared data at /nowhere"),
        ({"recipe": "bert"}, "sees the whole text at once"),
        ({"horizons": (STEP, STEP + 1)}, "closer than one update"),
        ({"overrides": ("dim=16", "depth=1", "heads=2", "training.schedule=Cosine")}, "needs the schedule"),
        ({"parameters": 10, "overrides": ()}, "too few"),
    ],
)
def test_what_cannot_be_tried_says_why(changes: dict[str, Any], message: str, corpus: Dataset, tmp_path: Path) -> None:
    result = run_trial(replace(tiny(corpus), **changes), tmp_path)
    assert result.status == "failed" and message in result.reason


def test_running_out_of_memory_is_said(corpus: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(_: Trainer) -> None:
        torch.empty(2**60)

    monkeypatch.setattr(Trainer, "update", greedy)
    result = run_trial(tiny(corpus), tmp_path)
    assert result.status == "failed" and "not enough memory" in result.reason


def test_a_result_cut_short_is_measured_again(corpus: Dataset, tmp_path: Path) -> None:
    wanted = tiny(corpus, horizons=(10 * STEP,))
    first = run_trial(wanted, tmp_path)
    file = tmp_path / wanted.key / trial.RESULT
    file.write_text(file.read_text()[:200])
    assert losses(run_trial(wanted, tmp_path)) == losses(first)


def test_a_worker_ends_with_its_parent(corpus: Dataset, tmp_path: Path) -> None:
    """Killing the parent outright leaves nobody behind who still writes to the folder."""
    spec = json.dumps(tiny(corpus, horizons=(10**6 * STEP,)).to_json())
    parent = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); p.wait()"
    words = [sys.executable, "-c", parent, sys.executable, "-m", "genus.plan.trials.trial", spec, str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*/points.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    while _alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_counting_gives_a_point_for_each_share(corpus: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = corpus.split("train").tokens
    wanted = tiny(corpus, "ngram", horizons=(size // 4, size // 2, size, 9 * size))
    result = run_trial(wanted, tmp_path)
    assert result.status == "done", result.reason
    assert [p.tokens for p in result.points] == pytest.approx([size // 4, size // 2, size], abs=2)
    assert losses(result) == sorted(losses(result), reverse=True)
    assert all(p.memory > 0 and p.seconds > 0 and p.error for p in result.points)
    whole = start("ngram", corpus.root, tmp_path / "whole", TrainOptions(eval_tokens=2048, overrides=("order=3",)), quiet)
    assert whole.config["finished"]["validation"]["loss"] == pytest.approx(losses(result)[-1], abs=1e-9)
    assert result.parameters is not None and result.parameters["total"] == whole.config["parameters"]
    assert not (tmp_path / wanted.key / "model").exists()
    kept = tmp_path / wanted.key / counted_trial.PARTIAL
    content = json.loads(kept.read_text())
    kept.write_text(json.dumps({**content, "points": content["points"][:2]}))
    (tmp_path / wanted.key / trial.RESULT).unlink()
    counted = []
    original = counted_trial.estimate
    monkeypatch.setattr(
        counted_trial, "estimate", lambda share, *a, **k: counted.append(share.tokens) or original(share, *a, **k)
    )
    assert losses(run_trial(wanted, tmp_path)) == losses(result) and counted == [size]


@pytest.mark.parametrize(("tokens", "pieces"), [(40, 4), (90, 3), (100, 7), (10, 1)])
def test_a_share_looks_like_the_whole_and_contains_the_smaller(tokens: int, pieces: int) -> None:
    class Numbers:
        tokens = 103
        ends = np.array([7, 8, 40, 103])

        def read(self, start: int, stop: int) -> np.ndarray:
            return np.arange(start, stop)

    share = Share(Numbers(), tokens, pieces)
    read = share.read(0, share.tokens)
    assert abs(share.tokens - tokens) <= pieces and len(set(read.tolist())) == share.tokens
    assert share.ends[-1] == share.tokens and (np.diff(share.ends) > 0).all()
    borders = {7, 8, 40, 103}
    assert {int(read[e - 1]) + 1 for e in share.ends} - borders <= {int(read[s - 1]) + 1 for s in share.starts[1:]}
    assert {int(t) + 1 for t in read if int(t) + 1 in borders} <= {int(read[e - 1]) + 1 for e in share.ends}
    assert share.read(3, 9).tolist() == read[3:9].tolist()
    smaller = Share(Numbers(), tokens // 2, pieces)
    assert set(smaller.read(0, smaller.tokens).tolist()) <= set(read.tolist())


def test_rows_of_a_runs_table(corpus: Dataset, tmp_path: Path) -> None:
    result = run_trial(tiny(corpus, horizons=(10 * STEP, 30 * STEP)), tmp_path)
    rows = result.rows("effective")
    assert [r["tokens"] for r in rows] == [10 * STEP, 30 * STEP] and {r["run"] for r in rows} == {result.key}
    assert result.parameters is not None and rows[0]["params"] == result.parameters["effective"] < result.parameters["total"]
    assert rows[1]["flops"] == pytest.approx(3 * rows[0]["flops"])
    assert rows[1]["seconds"] > rows[0]["seconds"] > 0
    assert rows[0]["unique"] == min(10 * STEP, corpus.split("train").tokens)
