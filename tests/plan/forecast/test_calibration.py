"""Calibration: what width the cases ask for, and the file of one's own cases."""

import numpy as np
import pytest

from genus.plan.forecast import calibration
from genus.plan.forecast.calibration import Case


def cases(source: str, count: int, scale: float = 1.0, seed: int = 0) -> list[Case]:
    rng = np.random.default_rng(seed)
    deviation = rng.uniform(0.01, 0.03, count)
    return [Case(source, f"{source} {i}", 10.0, float(scale * d * rng.normal()), float(d)) for i, d in enumerate(deviation)]


def test_covers_the_nominal_share():
    made = calibration.calibrate([*cases("a", 200), *cases("b", 200, seed=1)])
    assert 1.3 < made.multiplier < 2.0
    assert 0.87 < np.mean([made.covers(c) for c in cases("c", 400, seed=2)]) < 0.95


def test_sources_count_alike_whatever_their_size():
    many, few = cases("many", 300), cases("few", 10, scale=4, seed=1)
    both = calibration.calibrate([*many, *few])
    pooled = calibration.calibrate([Case("one", c.name, c.ratio, c.error, c.deviation) for c in [*many, *few]])
    assert both.multiplier > 1.5 * pooled.multiplier


def test_measured_coverage_leaves_the_source_out():
    """The odd source is covered by a calibration that knows it, and not by one that knows only the others."""
    made = calibration.calibrate([*cases("a", 50), *cases("b", 50, seed=1), *cases("odd", 50, scale=8, seed=2)])
    told = made.coverage()
    assert told["nominal"] == 0.9 and told["cases"] == 150
    assert told["sources"]["odd"] < 0.5 < told["sources"]["a"]
    assert np.mean([made.covers(c) for c in cases("odd", 50, scale=8, seed=2)]) > told["sources"]["odd"]


def test_cases_of_a_like_scale_count_more():
    """Small models that were off by more widen what is said of small models, and hardly what is said of large ones."""
    small = [Case("small", c.name, c.ratio, c.error, c.deviation, 1e13) for c in cases("small", 20, scale=3, seed=4)]
    every = [*(c for i, s in enumerate("abcd") for c in cases(s, 40, seed=i)), *small]
    near, alike, far = (calibration.calibrate(every, flops).multiplier for flops in (1e13, None, 1e19))
    assert near > 1.3 * alike and alike >= far and far < 2.2


def test_interval_has_a_floor_that_grows_with_distance():
    made = calibration.calibrate(cases("a", 50))
    near, far = made.half_width(np.array([1e-9, 1e-9]), np.array([1.0, 100.0]))
    assert near == pytest.approx(made.floor) and far == pytest.approx(3 * made.floor)


def test_own_cases_are_kept_and_widen(tmp_path):
    path = tmp_path / "folder" / "own.json"
    before = calibration.load(path)
    for i in range(8):
        calibration.append(Case("own", f"run {i}", 10.0, 0.5, 0.01), path)
    after = calibration.load(path)
    assert len(after.cases) == len(before.cases) + 8 and after.multiplier > before.multiplier
    calibration.append(Case("own", "run 0", 10.0, 0.001, 0.01), path)  # the same run again replaces it
    assert len(calibration.read(path)) == 8 and calibration.read(path)[-1].error == 0.001


def test_one_own_case_counts_less_than_five(tmp_path):
    def multiplier(count: int) -> float:
        own = [Case("own", str(i), 10.0, 0.05, 0.01) for i in range(count)]
        return calibration.calibrate([*(c for i, s in enumerate("abcd") for c in cases(s, 40, seed=i)), *own]).multiplier

    assert multiplier(0) <= multiplier(1) < multiplier(10)


def test_file_of_own_cases_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("GENUS_CALIBRATION", str(tmp_path / "x.json"))
    assert calibration.own_file() == tmp_path / "x.json"
    monkeypatch.delenv("GENUS_CALIBRATION")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert calibration.own_file() == tmp_path / "genus" / "calibration.json"


@pytest.mark.parametrize("text", ["{", "{}", '{"cases": [{"source": 1}]}', '{"cases": 3}'])
def test_a_broken_file_says_so(tmp_path, text):
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="not a calibration file"):
        calibration.load(path)


@pytest.mark.parametrize("case", [Case("own", "x", 10.0, float("nan"), 0.01), Case("own", "x", 10.0, 0.1, 0.0)])
def test_a_case_without_numbers_is_refused(tmp_path, case):
    with pytest.raises(ValueError, match="finite error"):
        calibration.append(case, tmp_path / "own.json")


def test_published_cases_come_with_the_package():
    told = calibration.calibrate(calibration.published()).coverage()
    assert told["cases"] > 70 and len(told["sources"]) == 5
    assert told["measured"] >= 0.85
