"""The one test of sharpness: on curves whose answer is known, and on published evaluations."""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from genus.evaluate.probes.result import Curve
from genus.evaluate.probes.sharpness import SHARP, hidden_progress, sharpness

STEPS = 2.0 ** np.arange(0, 16, 0.5)


def test_a_step_is_sharp_wherever_it_stands() -> None:
    for at in (3, 100, 20_000):
        found = sharpness(STEPS, (at < STEPS).astype(float))
        assert found.verdict == "sharp" and found.share == pytest.approx(1.0)
        assert found.at <= at <= 2 * found.at * 1.01
    down = sharpness(STEPS, 3.0 - 3.0 * (STEPS > 100))
    assert down.verdict == "sharp"


@pytest.mark.parametrize(
    ("curve", "share"),
    [(np.log(STEPS), 1 / 15.5), (np.exp(-STEPS / 300), 0.25), (STEPS**-0.3, 1 - 2**-0.3), (1 / STEPS, 0.5)],
    ids=["straight in log x", "exponential", "power law", "hyperbola"],
)
def test_smooth_curves_are_not(curve: np.ndarray, share: float) -> None:
    """The shares of the module's table. Finite ranges add a little to what a power law changes at its beginning."""
    found = sharpness(STEPS, curve)
    assert found.verdict == "smooth"
    assert found.share == pytest.approx(share, rel=0.06) and found.share < SHARP


def test_noise_does_not_make_a_smooth_curve_sharp() -> None:
    rng = np.random.default_rng(0)
    verdicts = {sharpness(STEPS, np.log(STEPS) + rng.normal(0, 0.5, len(STEPS))).verdict for _ in range(20)}
    assert verdicts == {"smooth"}


def test_flat_and_undecided() -> None:
    assert sharpness(STEPS, np.full(len(STEPS), 2.0)).verdict == "flat"
    assert sharpness(STEPS, 2.0 + 0.01 * np.log(STEPS), least=0.2).verdict == "flat"
    assert sharpness([1, 2, 3, 4], [4, 3, 2, 1]).verdict == "unresolved"
    assert sharpness([10, 11, 12, 13, 14, 15], [6, 5, 4, 3, 2, 1]).verdict == "unresolved"
    under_way = sharpness(STEPS, STEPS**-2.0)
    assert under_way.verdict == "unresolved" and "what was before 1 is not known" in under_way.reason
    far = sharpness([1, 2, 4, 1024, 2048, 4096], [5.0, 5.0, 5.0, 1.0, 1.0, 1.0])  # a step or not: nobody looked
    assert far.verdict == "unresolved" and "between 4 and 1.02e+03" in far.reason


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="positive and increasing"):
        sharpness([0, 1, 2, 4, 8, 16], [1, 2, 3, 4, 5, 6])
    with pytest.raises(ValueError, match="not finite"):
        sharpness([1, 2, 4, 8, 16, 32], [1, 2, math.nan, 4, 5, 6])


def test_hidden_progress() -> None:
    loss = [4.0, 3.0, 2.0, 1.0, 0.0]
    assert hidden_progress(loss, [0, 0, 0, 0, 1]) == pytest.approx(0.75)
    assert hidden_progress(loss, [0, 0.25, 0.5, 0.75, 1]) == 0.0
    assert hidden_progress(loss, [0, 0, 0, 0, 0]) is None


def test_published_evaluations(shared_data: Path) -> None:
    """Pythia on LAMBADA: the accuracy stays at nothing while the log-probability falls, so the emergence is the metric's."""
    file = shared_data / "scaling" / "pythia-evals" / "pythia_v1_evals.csv.gz"
    if not file.is_file():
        pytest.skip(f"no table at {file}")
    points: dict[str, dict[int, dict[str, float]]] = {}
    with gzip.open(file, "rt", encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            if row["task"] == "lambada_openai" and row["shots"] == "zero" and int(row["step"]) > 0:
                points.setdefault(row["model"], {}).setdefault(int(row["step"]), {})[row["metric"]] = float(row["value"])
    assert len(points) == 7
    for model, steps in points.items():
        x = sorted(steps)
        accuracy, loss = [steps[s]["acc"] for s in x], [math.log(steps[s]["ppl"]) for s in x]
        curve = Curve.judge("steps", x, "accuracy", accuracy, "log-perplexity", loss)
        assert accuracy[:10] == [0.0] * 10 and accuracy[-1] > 0.15, model
        assert curve.verdict.verdict == "smooth", (model, curve.verdict)
        assert curve.verdict.share < 0.4, (model, curve.verdict)
        assert curve.hidden > 0.2, (model, curve.hidden)
