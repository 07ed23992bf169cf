"""Published tables of runs: what others found must come out, or better. The rules are in benchmarks/plan_fits.py."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plan_fits", REPOSITORY / "benchmarks" / "plan_fits.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    if not (shared_data / "scaling" / "EXPECTED.json").is_file():
        pytest.skip(f"no published tables at {shared_data / 'scaling'}")
    return shared_data / "scaling"


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict:
    return json.loads((folder / "EXPECTED.json").read_text())


def test_datablations_fits_better_than_published(rules: ModuleType, folder: Path, expected: dict) -> None:
    then = rules.datablations_published(folder)
    assert then.objective == pytest.approx(expected["datablations"]["ours"]["objective_at_published"], abs=1e-10)
    law = rules.datablations_fit(folder)
    assert law.objective <= 0.0158074 and law.gradient_norm < 1e-6


def test_the_worth_of_repeated_data_is_reported_as_flat(rules: ModuleType, folder: Path, expected: dict) -> None:
    found = rules.datablations_profile(folder)
    assert found.flat and found.low == pytest.approx(8, rel=0.1) and found.high >= 1000
    assert "flat" in found.text() and "15" not in found.text()
    grid = [float(r) for r in expected["datablations"]["ours"]["profile_RD*->RN*,objective"]]
    given = rules.profile(rules.datablations(folder), "repeated", "R_D", grid=grid, fixed=rules.datablations_base(folder))
    for value, (_, objective) in expected["datablations"]["ours"]["profile_RD*->RN*,objective"].items():
        at = int(np.argmin(np.abs(given.grid - float(value))))
        assert given.objective[at] <= objective * (1 + 5e-6)


@pytest.mark.parametrize("table,key", [("HOT", "hot"), ("COOLED", "cool_end")])
def test_gemstones_reach_a_lower_objective(rules: ModuleType, folder: Path, expected: dict, table: str, key: str) -> None:
    law = rules.gemstone(folder, getattr(rules, table))
    least = expected["gemstone"]["our_lower_optimum"][key]
    assert law.objective <= least["objective"] * (1 + 1e-6) and law.gradient_norm < 1e-6
    assert [round(law.values[n], 4) for n in ("alpha", "beta", "E")] == [least[n] for n in ("alpha", "beta", "E")]


def test_the_cooldown_lowers_the_loss_by_two_and_a_half_percent(rules: ModuleType, folder: Path, expected: dict) -> None:
    offsets, known = rules.cooldown_offsets(folder), expected["gemstone"]["cooldown_offset"]
    assert len(offsets) == 180
    assert offsets.mean() == pytest.approx(known["mean"], abs=5e-5) and offsets.std() == pytest.approx(known["sd"], abs=1e-4)


def test_gadre_large_models_from_five_small_runs(rules: ModuleType, folder: Path) -> None:
    errors = rules.gadre(folder, "rpj")
    assert round(100 * errors["1.4B, 640 tokens per parameter"], 2) == 0.71
    assert round(100 * errors["6.9B, 20"], 2) == 0.73
    assert round(100 * rules.gadre(folder, "c4_original")["6.9B, 20"], 2) == 4.3
    assert round(100 * rules.gadre(folder, "rw_original")["6.9B, 20"], 2) == 1.62


def test_porian_exponents_to_four_digits(rules: ModuleType, folder: Path) -> None:
    exponents = rules.porian(folder)
    assert len(exponents) == 30
    for setting, kind, ours, theirs in exponents:
        assert round(ours, 4) == round(theirs, 4), (setting, kind)


def test_a_grid_of_starts_finds_nothing_lower(rules: ModuleType, folder: Path) -> None:
    runs = rules.Runs.read(folder / rules.COOLED)
    grid = rules.hoffmann(runs, starts=5, delta=1e-4)
    assert rules.fit(runs, delta=1e-4).objective <= grid.objective * (1 + 1e-9)
