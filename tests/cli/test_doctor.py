"""`genus doctor`, with a short tour."""

import json
import sys

import pytest

from genus.cli import main
from genus.doctor import packages
from genus.doctor import tour as tour_module
from genus.doctor.tour import Work

SHORT = (Work("training", "gpt2", {"dim": 32, "depth": 1, "heads": 2, "vocab": 32, "context": 16}, rows=2, time=16),)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tour_module, "WORKS", SHORT)


def test_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--quick"]) == 0
    shown = capsys.readouterr().out
    for word in ("processor", "cores", "instructions", "memory", "torch", "threads", "kernels", "operation", "needed", "[data]"):
        assert f"\n{word}" in shown
    assert "linear_cross_entropy  " in shown and " ms" not in shown and "memory read" not in shown


def test_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genus.train.machine.matmul_ceiling", lambda *_: 4e11)
    monkeypatch.setattr("genus.train.machine.memory_ceiling", lambda *_: 4e10)
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ceilings"].pop("share") >= 0 and found["ceilings"] == {"fp32": 4e11, "bf16": 4e11, "memory": 4e10}
    assert found["threads"] == {"count": 1, "source": "OMP_NUM_THREADS", "speeds": [], "share": None}
    ops = {p["op"]: p for p in found["paths"]}
    assert ops["layer_norm"]["path"] in ("native", "torch") and ops["linear"]["forward"] > 0 and ops["linear"]["backward"] > 0
    assert ops["linear"]["operations"] > 0 and all(p["right"] for p in found["paths"])
    assert all(f["kind"] != "broken" for f in found["findings"])


def test_something_needed_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_declared", lambda: {"": ["genus-none-such>=3"]})
    assert main(["doctor", "--quick"]) == 1
    assert "broken: genus-none-such is not installed\n  pip install --upgrade 'genus-none-such>=3'" in capsys.readouterr().out


def test_without_torch(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "broken: torch cannot be imported" in shown and "processor" in shown and "operation" not in shown
