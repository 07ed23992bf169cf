"""Fits of published tables of runs: what came out of them then, what comes out here, and how long it takes.

    python -m benchmarks.plan_fits [FOLDER] [--starts 200]

FOLDER holds the published tables (default: ../shared/data/scaling). Times are of one processor core. The peer is the recipe of
Hoffmann 2022 (appendix D.3), written with scipy in a few lines: L-BFGS-B with an exact gradient from a grid of 4,500 starts, of
which `--starts` are drawn; it runs in the same process, and its time for the whole grid is in proportion.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genus.plan.bootstrap import bootstrap
from genus.plan.fit import Law, fit, line
from genus.plan.profile import Profile, profile
from genus.plan.table import Runs

HOT, COOLED = "gemstone/wandb_df_for_fitting_hot.jsonl", "gemstone/wandb_df_for_fitting_cool_end.jsonl"
PORIAN_SETTING = ("file", "dataset", "hparams", "warmup", "decay", "param_count", "loss_kind")


# ---- the published rules


def datablations(folder: Path) -> Runs:
    """The 182 runs on which R_D and R_N were fitted; the file has them in 1e9, the constants are for ones."""
    runs = Runs.read(folder / "datablations/runs_fit_outliers_removed.csv")
    assert runs.unique is not None
    return Runs(runs.params * 1e9, runs.tokens * 1e9, runs.loss, runs.run, runs.unique * 1e9, name="datablations")


def datablations_base(folder: Path) -> dict[str, float]:
    """The law of single-epoch runs, which was fitted before and held."""
    base = json.loads((folder / "EXPECTED.json").read_text())["datablations"]["base"]
    logs = {name: math.exp(base[name.lower()]) for name in ("E", "A", "B")}
    return {**logs, "alpha": base["alpha=beta"], "beta": base["alpha=beta"]}


def datablations_published(folder: Path) -> Law:
    """The objective at the published constants: everything given."""
    return fit(datablations(folder), "repeated", fixed={**datablations_base(folder), "R_D": 15.387756, "R_N": 5.309743})


def datablations_fit(folder: Path) -> Law:
    return fit(datablations(folder), "repeated", fixed=datablations_base(folder))


def datablations_profile(folder: Path) -> Profile:
    return profile(datablations(folder), "repeated", "R_D", fixed=datablations_base(folder), within=0.01)


def gemstone(folder: Path, table: str) -> Law:
    return fit(Runs.read(folder / table), delta=1e-4)


def cooldown_offsets(folder: Path) -> np.ndarray:
    """(pairs,) relative change of the loss from the constant learning rate, interpolated in log tokens, to the cooldown's end."""
    hot, cooled = Runs.read(folder / HOT), Runs.read(folder / COOLED)
    offsets = []
    for run, tokens, loss in zip(cooled.run, cooled.tokens, cooled.loss):
        curve = hot[hot.run == run]
        if curve.tokens.min() <= tokens <= curve.tokens.max():
            order = np.argsort(curve.tokens)
            offsets.append(loss / np.interp(np.log(tokens), np.log(curve.tokens[order]), curve.loss[order]) - 1)
    return np.array(offsets)


def gadre(folder: Path, dataset: str) -> dict[str, float]:
    """Relative errors of the predicted loss of the two large models, from five small runs (Gadre 2024, table 2)."""
    with open(folder / "gadre2024/runs.csv", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["dataset"] == dataset]
    runs = Runs.from_rows(rows, columns={"loss": "loss_c4_val"})
    model = np.array([Path(r["model"]).stem.split("_l=")[0] for r in rows])
    multiple = np.round(20 * np.array([float(r["chinchilla_multiplier"]) for r in rows]))
    small = np.isin(model, ["d=96", "d=512", "d=576", "d=1024"]) & (multiple == 20) | (model == "d=96") & (multiple == 320)
    assert small.sum() == 5
    law = fit(runs[small], delta=math.inf, residual="plain", tie="alpha=beta")
    targets = {"1.4B, 640 tokens per parameter": ("open_lm_1b", 640), "6.9B, 20": ("open_lm_7b", 20)}
    errors = {}
    for name, (large, tokens) in targets.items():
        there = runs[(model == large) & (multiple == tokens)]
        if len(there):
            errors[name] = float(abs(law.predict_runs(there) / there.loss - 1)[0])
    return errors


def porian(folder: Path) -> list[tuple[str, str, float, float]]:
    """Setting, weighting, exponent of the best size in compute here and as published (Porian 2024)."""
    with open(folder / "porian2024/optimal_pairs.csv", encoding="utf-8") as file:
        pairs = [r for r in csv.DictReader(file) if r["n"]]
    found = []
    for published in json.loads((folder / "porian2024/published_fits.json").read_text()):
        rows = [r for r in pairs if all(r[k] == published[k] for k in PORIAN_SETTING)]
        flops, size, deviation = (np.array([float(r[k]) for r in rows]) for k in ("flops", "n", "n_star_std"))
        setting = " ".join(published[k] for k in PORIAN_SETTING[1:])
        for kind, weights in (("basic", None), ("weighted", deviation**-2.0)):
            found.append((setting, kind, line(flops, size, weights)[0], published[f"{kind}_n_exponent"]))
    return found


# ---- the peer


@dataclass(frozen=True)
class Grid:
    """What a grid of starts reached."""

    objective: float
    starts: int
    seconds: float


def hoffmann(runs: Runs, starts: int, delta: float, seed: int = 0) -> Grid:
    """Best of `starts` random points of the published grid."""
    from scipy.optimize import minimize

    log_n, log_d, log_l = np.log(runs.params), np.log(runs.tokens), np.log(runs.loss)

    def objective(z: np.ndarray) -> tuple[float, np.ndarray]:
        e, a, b, alpha, beta = z
        parts = np.stack([np.full_like(log_n, e), a - alpha * log_n, b - beta * log_d])
        top = parts.max(0)
        total = np.exp(parts - top).sum(0)
        share = np.exp(parts - top) / total
        r = top + np.log(total) - log_l
        bent = np.clip(r, -delta, delta)
        slopes = np.stack([share[0], share[1], share[2], -log_n * share[1], -log_d * share[2]])
        return float((bent * (r - bent / 2)).sum()), slopes @ bent

    half = np.arange(0, 2.1, 0.5)
    grid = list(itertools.product(np.arange(-1, 1.1, 0.5), np.arange(0, 26, 5.0), np.arange(0, 26, 5.0), half, half))
    chosen = np.random.default_rng(seed).choice(len(grid), starts, replace=False)
    began = time.process_time()
    # The solver's usual tolerances stop at once on an objective of 1e-4.
    settings = {"maxiter": 15_000, "maxfun": 15_000, "ftol": 1e-15, "gtol": 1e-10}
    best = min(float(minimize(objective, np.array(grid[i]), jac=True, method="L-BFGS-B", options=settings).fun) for i in chosen)
    return Grid(best, starts, time.process_time() - began)


# ---- the tables


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.process_time()
    return work(), time.process_time() - began


def row(what: str, found: str, expected: str, passed: bool, seconds: float | None = None) -> None:
    took = "" if seconds is None else f"{seconds:8.2f}"
    print(f"{what:52}{found:>24}  {expected:24}{'yes' if passed else 'NO':4}{took}", flush=True)


def published(folder: Path) -> None:
    print(f"{'':52}{'found':>24}  {'expected':24}{'':4}{'CPU s':>8}")
    at = datablations_published(folder)
    row(
        "datablations, published R_D, R_N: objective",
        f"{at.objective:.10f}",
        "0.0158259366",
        abs(at.objective - 0.0158259366) < 2e-9,
    )
    law, seconds = timed(lambda: datablations_fit(folder))
    row("  fitted", f"{law.objective:.10f}", "<= 0.0158074", law.objective <= 0.0158074, seconds)
    found, seconds = timed(lambda: datablations_profile(folder))
    row("  R_D within 1 %", f"{found.low:.3g} to {found.high:.3g}", "flat, about 8 to 1000", found.flat, seconds)
    for name, table, least in (("hot", HOT, 0.00020750516), ("cooled", COOLED, 0.00020477907)):
        law, seconds = timed(lambda table=table: gemstone(folder, table))
        row(f"Gemstones {name}: objective", f"{law.objective:.12f}", f"<= {least}", law.objective <= least * (1 + 1e-6), seconds)
    offsets, seconds = timed(lambda: cooldown_offsets(folder))
    passed = len(offsets) == 180 and abs(offsets.mean() + 0.0246) < 5e-5
    row("  cooldown", f"{offsets.mean():.2%} of {len(offsets)} pairs", "-2.46 % of 180", passed, seconds)
    for dataset, expected in (("rpj", (0.007103, 0.00732)), ("c4_original", (0.042952,)), ("rw_original", (0.016193,))):
        errors, seconds = timed(lambda dataset=dataset: gadre(folder, dataset))
        wanted = dict(zip(list(errors)[-len(expected) :], expected))
        for name, value in wanted.items():
            row(f"Gadre {dataset} {name}", f"{errors[name]:.3%}", f"{value:.2%}", abs(errors[name] - value) < 5e-6, seconds)
    exponents, seconds = timed(lambda: porian(folder))
    worst = max(abs(ours - theirs) for *_, ours, theirs in exponents)
    row(f"Porian, {len(exponents)} exponents: largest difference", f"{worst:.0e}", "< 5e-5", worst < 5e-5, seconds)


def speed(folder: Path, starts: int) -> None:
    print(f"\n{'':24}{'rows':>6}{'ours':>18}{'CPU s':>8}{'grid':>18}{'CPU s':>8}{'starts':>8}{'4,500':>9}{'ratio':>8}")
    tables = {
        "Gemstones hot": (Runs.read(folder / HOT), 1e-4),
        "Gemstones cooled": (Runs.read(folder / COOLED), 1e-4),
        "Gemstones beyond 100B": (Runs.read(folder / "gemstone/wandb_df_for_fitting_hot_100b+.jsonl"), 1e-3),
        "datablations": (Runs.read(folder / "datablations/runs_all.csv"), 1e-3),
    }
    for name, (runs, delta) in tables.items():
        law, seconds = timed(lambda runs=runs, delta=delta: fit(runs, delta=delta))
        grid = hoffmann(runs, starts, delta)
        whole = grid.seconds / starts * 4500
        print(
            f"{name:24}{len(runs):6}{law.objective:18.12f}{seconds:8.2f}{grid.objective:18.12f}{grid.seconds:8.1f}{starts:8}"
            f"{whole:9.0f}{whole / seconds:8.0f}",
            flush=True,
        )
    runs = tables["Gemstones hot"][0]
    laws, seconds = timed(lambda: bootstrap(runs, repeats=100))
    print(f"\nbootstrap by run, {len(laws)} repeats of {len(runs)} rows: {seconds:.1f} CPU s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("folder", nargs="?", type=Path, default=here.parent / "shared/data/scaling")
    parser.add_argument("--starts", type=int, default=200, help="of the peer, for each table")
    options = parser.parse_args()
    fit(Runs.read(options.folder / HOT))  # what is imported and warmed up at first use is not part of the times
    published(options.folder)
    speed(options.folder, options.starts)


if __name__ == "__main__":
    main()
