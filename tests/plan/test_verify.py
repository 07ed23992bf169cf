"""The verdict on a run that a plan predicted, and what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from genus import cli
from genus.plan.forecast.calibration import read
from genus.plan.options import PlanOptions
from genus.plan.store import Branch, Choice, Plan
from genus.plan.verify import FILE, record, verify
from genus.run import PREDICTION, Run


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    best = Choice("llama", "llama", 1_000_000, 2e7, 3600.0, 1.5, 1.45, 1.56, deviation=0.02, ratio=10.0)
    other = replace(best, branch="lstm", recipe="lstm", loss=1.6, low=1.58, high=1.62)
    branches = {"llama": Branch("llama", best=best), "lstm": Branch("lstm", best=other)}
    return Plan({"fingerprint": "ab"}, PlanOptions(), {}, {}, branches, best).write(tmp_path / "plan")


def finish(path: Path, plan: Plan, branch: str, bpb: float | None = 1.52, **finished) -> Path:
    """A run of the plan as it lies there after training."""
    config = {"parameters": 1_000_000, "data": {"fingerprint": "ab"}}
    run = Run.create(path, config, plan.prediction(plan.choice(branch)))
    validation = None if bpb is None else {"loss": 1.0, "bpb": bpb}
    run.config["finished"] = {"tokens": 20_000_000, "seconds": 4000.0, "refused_updates": 0, "validation": validation, **finished}
    run.save()
    return path


def test_inside(plan: Plan, tmp_path: Path) -> None:
    verdict = verify(finish(tmp_path / "run", plan, "llama"))
    assert verdict.inside and verdict.recommended and verdict.notes == []
    assert verdict.error == pytest.approx(0.02 / 1.52)
    assert verdict.seconds == {"predicted": 3600.0, "used": 4000.0}
    assert "inside, +1.32%" in str(verdict)
    stored = json.loads((tmp_path / "run" / FILE).read_text())
    assert stored["inside"] and stored["achieved"] == 1.52 and stored["hash"] == plan.hash


@pytest.mark.parametrize(("bpb", "word"), [(1.7, "above the interval"), (1.5, "below the interval")])
def test_outside_of_a_branch_that_was_not_recommended(plan: Plan, tmp_path: Path, bpb: float, word: str) -> None:
    verdict = verify(finish(tmp_path / "run", plan, "lstm", bpb))
    assert not verdict.inside and not verdict.recommended
    assert word in str(verdict)


def test_what_was_not_as_planned_is_noted(plan: Plan, tmp_path: Path) -> None:
    path = finish(tmp_path / "run", plan, "llama", tokens=10_000_000, refused_updates=3)
    run = Run.open(path)
    run.config["data"]["fingerprint"] = "other"
    run.save()
    verdict = verify(path)
    notes = verdict.notes
    assert not verdict.fair
    assert notes[0] == "the run had 10,000,000 training tokens, the prediction is for 20,000,000"
    assert "other data" in notes[1] and notes[2].startswith("3 updates")


def test_a_changed_prediction_is_refused(plan: Plan, tmp_path: Path) -> None:
    path = finish(tmp_path / "run", plan, "llama")
    prediction = json.loads((path / PREDICTION).read_text())
    (path / PREDICTION).write_text(json.dumps({**prediction, "high": 1.9}))
    with pytest.raises(ValueError, match="changed after it was written"):
        verify(path)
    (path / PREDICTION).write_text(json.dumps({k: v for k, v in prediction.items() if k != "low"}))
    with pytest.raises(ValueError, match="has no low"):
        verify(path)
    (path / PREDICTION).write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        verify(path)


def test_without_its_plan_a_run_can_still_be_judged(plan: Plan, tmp_path: Path) -> None:
    path = finish(tmp_path / "run", plan, "llama")
    (tmp_path / "plan").rename(tmp_path / "elsewhere")
    assert verify(path).inside
    (tmp_path / "elsewhere").rename(tmp_path / "plan")
    (tmp_path / "plan" / "plan.json").write_text("{")
    (note,) = verify(path).notes
    assert note.startswith("the prediction could not be compared with its plan: ") and "damaged" in note


def test_what_cannot_be_judged(plan: Plan, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    Run.create(begun, {}, plan.prediction(plan.recommendation))
    with pytest.raises(ValueError, match="--resume"):
        verify(begun)
    with pytest.raises(ValueError, match="no validation split"):
        verify(finish(tmp_path / "blind", plan, "llama", None))
    Run.create(tmp_path / "own", {"finished": {}})
    with pytest.raises(FileNotFoundError, match="without a prediction"):
        verify(tmp_path / "own")
    with pytest.raises(FileNotFoundError, match="is not a run"):
        verify(tmp_path)


def test_a_case_is_recorded_once(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENUS_CALIBRATION", str(tmp_path / "cases" / "own.json"))
    path = finish(tmp_path / "run", plan, "llama")
    file = record(verify(path))
    assert file == tmp_path / "cases" / "own.json" and record(verify(path)) == file
    (case,) = read(file)
    assert (case.source, case.ratio, case.deviation) == ("own", 10.0, 0.02)
    assert case.error == pytest.approx(math.log(1.5 / 1.52))
    record(verify(finish(tmp_path / "other", plan, "lstm")))
    assert len(read(file)) == 2
    assert record(verify(finish(tmp_path / "short", plan, "llama", tokens=1000))) is None
    assert len(read(file)) == 2


def test_command_line(plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = finish(tmp_path / "a", plan, "llama"), finish(tmp_path / "b", plan, "lstm", 1.59)
    assert cli.main(["plan", "verify", str(first), str(second), "--no-record"]) == 0
    shown = capsys.readouterr().out
    assert "calibration" not in shown
    assert "llama, recommended" in shown and "lstm, not recommended" in shown
    assert "time: predicted 60 min, used 66.7 min" in shown
    assert cli.main(["plan", "verify"]) == 2
