"""Probes of a run, in Python and on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from genus.cli import main
from genus.evaluate import probes
from genus.prepare.dataset import Dataset
from genus.run import Run


@pytest.fixture
def run(tmp_path: Path, runs: dict[str, Path], data: Dataset) -> Path:
    """A copy of a finished run that knows where its data are."""
    copy = Run.open(shutil.copytree(runs["gru"], tmp_path / "gru"))
    copy.config["data"]["path"] = str(data.root)
    copy.save()
    return copy.path


def test_a_run_knows_its_data(run: Path) -> None:
    results = probes.run(run)
    assert [r.probe for r in results] == ["induction", "context", "position"] and {r.kind for r in results} == {"read"}
    assert all(r.subject == "gru" and r.seconds > 0 for r in results)
    assert results[0].score < 0.2  # it has learnt nothing
    with pytest.raises(ValueError, match=r"no probe 'inductive' — did you mean|no probe 'inductive'.*induction"):
        probes.run(run, ["inductive"])


def test_without_data(runs: dict[str, Path], other_tokenizer: Dataset) -> None:
    assert [r.probe for r in probes.run(runs["llama"])] == ["induction"]
    with pytest.raises(ValueError, match="'context' and 'position' read text, and no DATA was given"):
        probes.run(runs["llama"], ["position"])
    with pytest.raises(ValueError, match="another tokenizer"):
        probes.run(runs["llama"], ["position"], data=other_tokenizer)


def test_the_context_is_the_model_s(runs: dict[str, Path], data: Dataset) -> None:
    (found,) = probes.run(runs["gpt2"], ["induction"], window=1000)
    assert found.curves[0].x == (4, 8)  # it has 24 learned positions
    with pytest.raises(ValueError, match="'induction' needs a context of at least 16 positions and gpt2 is read over 8"):
        probes.run(runs["gpt2"], ["induction"], window=8)


def test_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = run.parent / "labels.csv"
    labels.write_text("text,label\n" + "".join(f"{'ab'[i % 2]},{'no' if i % 2 else 'yes'}\n" for i in range(30)))
    assert main(["evaluate", str(run), "--probes", "induction,shots", "--labels", str(labels), "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert "the trained model, read: gru" in printed and "copied (" in printed and "accuracy, 8 shots" in printed
    assert main(["evaluate", str(run), "--probes", "position", "--quiet"]) == 0
    kept = json.loads((run / "probes.json").read_text())
    assert list(kept["probes"]) == ["induction", "position", "shots"] and kept["format"] == 1
    curve = kept["probes"]["position"]["curves"][0]
    assert len(curve["x"]) == len(curve["score"]) == len(curve["loss"]) and curve["verdict"]["verdict"]


def test_command_line_errors(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run)]) == 2
    assert "DATA is missing" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--probes", "shots", "--quiet"]) == 2
    assert "give --labels FILE" in capsys.readouterr().err
