"""Reading a run directory, whatever is missing or broken."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from genus.report.read import number, read, read_all


def test_records_by_kind(full_run: Path) -> None:
    run = read(full_run)
    assert (len(run.training), len(run.evaluations), len(run.samples), len(run.events)) == (301, 7, 1, 1)
    assert run.final() == run.evaluations[-1]["bpb"]
    assert run.last("tokens") == 600 * 4096
    assert run.median("tokens_per_s") == 21000.0
    assert [r[0] for r in run.predicted()] == list(range(200_000, 2_400_000, 200_000))


def test_a_counted_run_has_one_figure(counted_run: Path) -> None:
    run = read(counted_run)
    assert run.training == [] and run.final() == 2.2222 and run.last("seconds") == 3.5 and run.median("mfu") is None


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    run = read(tmp_path)
    assert run.final() is None and run.last("tokens") is None and run.curve("tokens", "bpb") == [] and run.predicted() == []


def test_broken_files_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"recipe": ')
    (tmp_path / "prediction.json").write_text("[1, 2]")
    lines = [
        '{"step": 1, "tokens": 5, "loss": NaN, "bpb": NaN}',
        "[]",
        "",
        '{"step": 2, "tokens": 9, "loss": 1, "bpb": 2.5}',
        "{",
    ]
    (tmp_path / "metrics.jsonl").write_bytes("\n".join(lines).encode() + b"\xff")
    run = read(tmp_path)
    assert run.config == {} and run.predicted() == []
    assert run.curve("tokens", "bpb") == [(9.0, 2.5)]


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not a run"):
        read(tmp_path)


def test_runs_of_one_name_are_told_apart(make_run: Callable[..., Path]) -> None:
    runs = [make_run(f"{group}/gpt2", steps=2) for group in "ab"]
    assert [r.name for r in read_all([*runs, runs[0]])] == ["a/gpt2", "b/gpt2", "a/gpt2 (3)"]


def test_numbers() -> None:
    assert [number(v) for v in (1, 2.5, True, "3", None, float("nan"), float("inf"))] == [1.0, 2.5, *[None] * 5]
    assert number(json.loads("1e400")) is None
