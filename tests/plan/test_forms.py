"""Each form against its formula written out, and its slopes against differences."""

import numpy as np
import pytest

from genus.plan.fit import Problem
from genus.plan.forms import FORMS, get
from genus.plan.table import Runs


def table(rows: int = 30, seed: int = 0) -> Runs:
    rng = np.random.default_rng(seed)
    return Runs(
        params=10 ** rng.uniform(6, 9, rows),
        tokens=10 ** rng.uniform(8, 11, rows),
        loss=rng.uniform(2, 4, rows),
        unique=10 ** rng.uniform(7, 9, rows),
        batch=10 ** rng.uniform(4, 6, rows),
        seconds=10 ** rng.uniform(0, 3, rows),
        memory=10 ** rng.uniform(6, 9, rows),
    )


VALUES = {
    "chinchilla": {"E": 1.7, "A": 400.0, "B": 410.0, "alpha": 0.34, "beta": 0.28},
    "bracket": {"E": 1.7, "A": 8e4, "B": 9e4, "alpha": 0.6, "beta": 0.5, "gamma": 0.55},
    "repeated": {"E": 1.9, "A": 521.0, "B": 1488.0, "alpha": 0.35, "beta": 0.37, "R_D": 15.0, "R_N": 5.0},
    "batch": {"E": 1.7, "A": 400.0, "B": 410.0, "C": 20.0, "alpha": 0.34, "beta": 0.28, "kappa": 0.5},
    "power": {"E": 1.5, "A": 80.0, "alpha": 0.2},
}


def value(name: str) -> dict[str, float]:
    return VALUES[name.split(":")[0]]


def plain(name: str, v: dict[str, float], r: Runs) -> np.ndarray:
    """The formulas as the papers write them."""
    n, d, u = r.params, r.tokens, np.minimum(r.unique, r.tokens)
    if name == "chinchilla":
        return v["E"] + v["A"] / n ** v["alpha"] + v["B"] / d ** v["beta"]
    if name == "bracket":
        return v["E"] + (v["A"] / n ** v["alpha"] + v["B"] / d ** v["beta"]) ** v["gamma"]
    if name == "batch":
        return v["E"] + v["A"] / n ** v["alpha"] + v["B"] / d ** v["beta"] + v["C"] / (d / r.batch) ** v["kappa"]
    if name == "repeated":
        a, b = v["alpha"], v["beta"]
        g = (a * v["A"] / (b * v["B"])) ** (1 / (a + b))
        base = np.minimum(n, g * (u * g) ** (b / a))
        data = u + u * v["R_D"] * (1 - np.exp(-(d / u - 1) / v["R_D"]))
        size = base + base * v["R_N"] * (1 - np.exp(-(n / base - 1) / v["R_N"]))
        return v["E"] + v["A"] / size**a + v["B"] / data**b
    column = name.partition(":")[2] or "tokens"
    return v["E"] + v["A"] / getattr(r, column) ** v["alpha"]


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_its_formula_wherever_the_coordinates_are_centred(name: str) -> None:
    form, runs = FORMS[name], table()
    raw = form.of_runs(runs)
    for shift in (0.0, 5.0):
        pivot = dict.fromkeys(raw, shift)
        u = form.to_coordinates(value(name), pivot)
        loss, _ = form.loss(u, {c: x - shift for c, x in raw.items()}, pivot)
        assert np.allclose(loss, plain(name, value(name), runs), rtol=1e-11)
        back = form.to_values(u, pivot)
        assert back.keys() == value(name).keys() and all(np.isclose(back[k], v, rtol=1e-12) for k, v in value(name).items())


@pytest.mark.parametrize("delta,residual", [(1e-3, "log"), (0.5, "log"), (np.inf, "plain")])
@pytest.mark.parametrize("name", FORMS)
def test_slopes_are_those_of_differences(name: str, delta: float, residual: str) -> None:
    problem = Problem(table(), FORMS[name], None, delta, {}, (), residual)
    z = problem.coordinates(value(name))
    for seed in range(3):
        point = z + np.random.default_rng(seed).normal(0, 0.1, len(z))
        _, gradient = problem.objective(point)
        steps = 1e-6 * np.eye(len(point))
        differences = [(problem.objective(point + s)[0] - problem.objective(point - s)[0]) / 2e-6 for s in steps]
        assert np.allclose(gradient, differences, rtol=1e-5, atol=1e-6 * np.abs(gradient).max())


@pytest.mark.parametrize("name", FORMS)
def test_the_basis_of_the_start_gives_the_same_loss(name: str) -> None:
    form, runs = FORMS[name], table()
    raw = form.of_runs(runs)
    pivot = {c: float(x.mean()) for c, x in raw.items()}
    if "unique" in pivot:
        pivot["unique"] = pivot["tokens"]
    x = {c: v - pivot[c] for c, v in raw.items()}
    axes = form.grid()
    theta = np.array([[axis[1] for axis in axes], [axis[-2] for axis in axes]])
    columns = form.basis(theta, x, pivot)
    coefficients = np.linspace(1.5, 0.7, columns.shape[2])
    for point, basis in zip(theta, columns):
        loss, _ = form.loss(form.assemble(point, coefficients), x, pivot)
        assert np.allclose(loss, basis @ coefficients, rtol=1e-10)


def test_unseen_repeats_are_plain_data() -> None:
    """One epoch of data, and a model no larger than it deserves, is the five-parameter law."""
    v = VALUES["repeated"]
    runs = table()[:10]
    once = FORMS["repeated"].logs({"params": np.full(10, 1e6), "tokens": runs.tokens, "unique": None})
    origin = dict.fromkeys(once, 0.0)
    loss, _ = FORMS["repeated"].loss(FORMS["repeated"].to_coordinates(v, origin), once, origin)
    assert np.allclose(loss, v["E"] + v["A"] / 1e6 ** v["alpha"] + v["B"] / runs.tokens ** v["beta"])


def test_what_a_form_needs_is_named() -> None:
    with pytest.raises(ValueError, match="'batch' needs batch"):
        FORMS["batch"].logs({"params": np.ones(1), "tokens": np.ones(1)})
    with pytest.raises(ValueError, match="'power:seconds' needs seconds"):
        FORMS["power:seconds"].logs({"tokens": np.ones(1)})
    with pytest.raises(ValueError, match="no form 'chinchila'; there is chinchilla"):
        get("chinchila")
