"""A plan comes back as it was written, and nothing in it can be changed unnoticed."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genus.plan.options import PlanOptions
from genus.plan.store import FILE, Branch, Choice, Plan, plain


def choice(branch: str, loss: float, **more) -> Choice:
    return Choice(branch, branch, 1_000_000, 2.5e7, 3600.0, loss, loss - 0.05, loss + 0.06, **more)


@pytest.fixture
def plan() -> Plan:
    llama, lstm = choice("llama", 1.5, why=["it is best"], curve=[{"tokens": 1e6, "bpb": 1.9}]), choice("lstm", 1.6)
    branches = {
        "llama": Branch("llama", best=llama, frontier={"seconds": np.array([1.0, 2.0]), "loss": [2.0, math.inf]}),
        "lstm": Branch("lstm", "dropped", "cannot win", best=lstm),
        "gpt": Branch("gpt2", "failed", "out of memory"),
    }
    return Plan(
        data={"path": Path("data"), "fingerprint": "ab", "tokens": np.int64(7)},
        options=PlanOptions(branches=("llama", "lstm", "gpt"), base=Path("base"), price=2.5),
        budget={"seconds": 7200.0},
        machine={"device": "神威"},
        branches=branches,
        recommendation=llama,
        alternatives=[replace(llama, params=500_000, name="llama-half")],
    )


def test_round_trip(plan: Plan, tmp_path: Path) -> None:
    written = plan.write(tmp_path / "new" / "plan")
    opened = Plan.open(tmp_path / "new" / "plan")
    assert opened == written == Plan.open(tmp_path / "new" / "plan" / FILE)
    assert opened.hash == plan.hash == json.loads((tmp_path / "new" / "plan" / FILE).read_text())["hash"]
    assert opened.recommendation == plan.recommendation
    assert opened.options == plan.options
    assert opened.branches["gpt"] == plan.branches["gpt"]
    assert opened.branches["llama"].frontier == {"seconds": [1.0, 2.0], "loss": [2.0, None]}
    assert opened.root == tmp_path / "new" / "plan"


def test_the_hash_is_of_the_content(plan: Plan, tmp_path: Path) -> None:
    assert plan.write(tmp_path / "a").hash == plan.write(tmp_path / "b").hash
    assert replace(plan, warnings=["one"]).hash != plan.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace('"low": 1.45', '"low": 1.05'), "changed after it was written"),
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: "[1, 2]", "damaged"),
        (lambda text: "{}", "damaged"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "reads form 1"),
    ],
)
def test_what_was_changed_is_refused(plan: Plan, tmp_path: Path, change, message: str) -> None:
    plan.write(tmp_path)
    text = (tmp_path / FILE).read_text(encoding="utf-8")
    assert change(text) != text
    (tmp_path / FILE).write_text(change(text), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        Plan.open(tmp_path)


def test_no_plan(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="goes on"):
        Plan.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="make one with genus plan"):
        Plan.open(tmp_path / "nowhere")


def test_a_failed_write_leaves_the_old_plan(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan.write(tmp_path)

    def full(*args) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace(plan, warnings=["new"]).write(tmp_path)
    assert Plan.open(tmp_path).warnings == []


def test_choices(plan: Plan) -> None:
    assert list(plan.choices()) == ["llama", "llama-half", "lstm"]
    assert plan.choice() is plan.choice("llama") is plan.recommendation
    assert plan.choice("llama-half").params == 500_000
    with pytest.raises(ValueError, match="no run 'gpt' \\(out of memory\\), only llama, llama-half, lstm"):
        plan.choice("gpt")
    with pytest.raises(ValueError, match="no run 'rnn', only"):
        plan.choice("rnn")


def test_prediction(plan: Plan, tmp_path: Path) -> None:
    plan = plan.write(tmp_path)
    said = plan.prediction(plan.recommendation)
    assert (said["bpb"], said["low"], said["high"]) == (1.5, 1.45, 1.56)
    assert said["hash"] == plan.hash and said["fingerprint"] == "ab" and said["recommended"]
    assert said["curve"] == [{"tokens": 1e6, "bpb": 1.9}]
    assert said["target"] == {"params": 1_000_000, "tokens": 2.5e7, "seconds": 3600.0}
    assert not plan.prediction(plan.choice("lstm"))["recommended"]
    json.dumps(said, allow_nan=False)


def test_plain() -> None:
    value = {1: (np.float32(0.5), np.nan), "a": {np.int64(3)}, "b": np.zeros((1, 2)), "c": True, "d": None}
    assert plain(value) == {"1": [0.5, None], "a": [3], "b": [[0.0, 0.0]], "c": True, "d": None}


def test_options_that_cannot_be_met() -> None:
    for wrong in ({"branches": ()}, {"branches": ("lstm", "lstm")}, {"share": 1.0}, {"memory": 0}, {"serve": float("nan")}):
        with pytest.raises(ValueError):
            PlanOptions(**wrong)
    assert PlanOptions.from_json({**PlanOptions().to_json(), "later": 1}) == PlanOptions()
