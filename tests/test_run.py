"""Run: the directory every verb reads and writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from genus import run as run_module
from genus.run import PREDICTION, Run, load, replace_folder, write_atomic


def test_create_open_save(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "a" / "b", {"name": "模型", "seed": 3})
    assert Run.open(tmp_path / "a" / "b").config == {"name": "模型", "seed": 3}
    assert "模型" in (run.path / "run.json").read_text(encoding="utf-8")
    run.config["seed"] = 4
    run.save()
    assert Run.open(str(run.path)).config["seed"] == 4
    assert run.model_dir == run.path / "model" and run.checkpoints_dir == run.path / "checkpoints"


def test_a_prediction_is_there_before_the_run(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {}, {"bpb": 1.5})
    assert json.loads((run.path / PREDICTION).read_text(encoding="utf-8")) == {"bpb": 1.5}
    assert not (Run.create(tmp_path / "another", {}).path / PREDICTION).exists()


def test_create_takes_nobody_elses_folder(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", {})
    with pytest.raises(FileExistsError, match="--resume"):
        Run.create(tmp_path / "run", {})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"")
    with pytest.raises(FileExistsError, match="is not a run; choose another"):
        Run.create(tmp_path / "photos", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="is not a run"):
        Run.create(tmp_path / "file", {})
    (tmp_path / "empty").mkdir()
    Run.create(tmp_path / "empty", {})


def test_open_what_is_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run\.json"):
        Run.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="neither a run nor a model folder"):
        load(tmp_path)


def test_load_an_unfinished_run(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", {})
    with pytest.raises(FileNotFoundError, match=r"genus train --resume"):
        load(tmp_path / "run")


def test_metrics_survive_a_kill(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    assert run.metrics() == []
    for step in range(5):
        run.log({"step": step, "loss": 1 / (step + 1)})
    with open(run.path / "metrics.jsonl", "a") as f:
        f.write('{"step": 5, "lo')
    assert [r["step"] for r in run.metrics()] == [0, 1, 2, 3, 4]
    run.forget_metrics_after(2)
    assert [r["step"] for r in run.metrics()] == [0, 1, 2]
    run.log({"step": 3})
    assert [r["step"] for r in run.metrics()] == [0, 1, 2, 3]


def test_a_line_cut_by_a_kill_does_not_take_the_next_with_it(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {})
    run.log({"step": 0})
    with open(run.path / "metrics.jsonl", "a") as f:
        f.write('{"step": 1, "lo')
    run.forget_metrics_after(0)
    run.log({"step": 1})
    assert [r["step"] for r in run.metrics()] == [0, 1]


def test_write_atomic_leaves_the_old_content_on_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_atomic(path, "old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    monkeypatch.undo()
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"


def test_replace_folder(tmp_path: Path) -> None:
    final = tmp_path / "model"
    for content in ("one", "two"):
        new = tmp_path / "model.tmp"
        (new / "inner").mkdir(parents=True)
        (new / "inner" / "config.json").write_text(json.dumps(content))
        replace_folder(new, final)
        assert json.loads((final / "inner" / "config.json").read_text()) == content
        assert os.listdir(tmp_path) == ["model"]
