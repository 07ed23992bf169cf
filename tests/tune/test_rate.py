"""The learning rate is tried on validation rows, upwards, while it helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from genus.run import Run
from genus.tune import rate
from genus.tune.methods import METHODS
from genus.tune.options import TuneOptions
from genus.tune.splits import Split
from genus.tune.trial import RESULT, WEIGHTS, Trial

SPLIT = Split("seed 0", tuple(range(200)), tuple(range(200, 240)), tuple(range(240, 300)))
BASE: Any = SimpleNamespace(weights={}, recipe=SimpleNamespace(parameters_total=1_000_000))
TASK: Any = SimpleNamespace(primary="accuracy")
HELD: Any = SimpleNamespace(valid=None)
FULL = METHODS["full"](TuneOptions())


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> dict[float, dict[str, float]]:
    """Validation scores by factor, for fits that are not made."""
    table: dict[float, dict[str, float]] = {}

    def measure(
        base: Any, task: Any, held: Any, split: Split, method: Any, options: Any, run: Run, group: str, *_: Any, **__: Any
    ):
        folder = run.path / group / rate.folder_name(split)
        folder.mkdir(parents=True, exist_ok=True)
        for name in (RESULT, WEIGHTS):
            (folder / name).write_text(str(options.rate))
        return Trial(split.name, 0, table[options.rate], {}, 200, 60, 1, 1, 1.0, 0.0, 1)

    monkeypatch.setattr(rate, "measure", measure)
    return table


def tried(run: Run, options: TuneOptions, base: Any = BASE, split: Split = SPLIT, said: list[str] | None = None) -> TuneOptions:
    return rate.tried(base, TASK, HELD, split, FULL, options, run, (said if said is not None else []).append, keep=True)


@pytest.mark.parametrize(
    ("accuracies", "best", "tries"), [((0.5, 0.6, 0.7), 10.0, 3), ((0.5, 0.6, 0.65), 3.0, 3), ((0.5, 0.4, 0.9), 1.0, 2)]
)
def test_upwards_while_it_helps(
    tmp_path: Path, scores: dict[float, dict[str, float]], accuracies: tuple[float, ...], best: float, tries: int
) -> None:
    scores |= {f: {"accuracy": a, "loss": 1.0} for f, a in zip(rate.FACTORS, accuracies)}
    run, said = Run.create(tmp_path / "run", {}), list[str]()
    assert tried(run, TuneOptions(), said=said) == TuneOptions(rate=best)
    assert len(said) == tries and f"accuracy {accuracies[0]:.3f} on 40 validation rows" in said[0]
    kept = run.path / "fits" / "seed-0"
    assert {p.name: p.read_text() for p in kept.iterdir()} == {RESULT: str(best), WEIGHTS: str(best)}
    assert not list(run.path.glob(f"fits-rate-*/*/{WEIGHTS}")) and len(list(run.path.glob(f"fits-rate-*/*/{RESULT}"))) == tries


def test_what_chance_gives_is_no_reason(tmp_path: Path, scores: dict[float, dict[str, float]]) -> None:
    """40 rows: a standard error of 8 points."""
    scores |= {1.0: {"accuracy": 0.5}, 3.0: {"accuracy": 0.57}}
    assert tried(Run.create(tmp_path / "run", {}), TuneOptions()).rate == 1.0


def test_nothing_is_tried_without_need(tmp_path: Path, scores: dict[float, dict[str, float]]) -> None:
    run = Run.create(tmp_path / "run", {})
    fresh = SimpleNamespace(weights=None, recipe=BASE.recipe)
    few = replace(SPLIT, valid=SPLIT.valid[:29])
    long = replace(SPLIT, train=tuple(range(20_000)))
    assert tried(run, TuneOptions(lr=1e-3)).rate is None
    assert tried(run, TuneOptions(), base=fresh).rate is None
    assert tried(run, TuneOptions(), split=few).rate is None
    assert tried(run, TuneOptions(), split=long).rate is None
    assert not list(run.path.glob("fits*"))
