"""How far off is a forecast? Published tables, fitted below a fraction of their largest budget and judged at the largest.

    python benchmarks/plan_extrapolation.py [--ratios 10,30] [--data FOLDER] [--small] [--write]

Every table x setting of `shared/data/scaling` is one case: its rows below 1/10 of the largest compute are fitted, the rows within
1.5 times of the largest compute and 3 % of the best loss there are judged. Intervals are calibrated on the cases of all *other*
sources. The peer, measured on the same rows, is the five-parameter law with Huber's loss (Hoffmann et al. 2022) without weights.

Pythia's losses on LAMBADA are judged too, and neither stored nor used in any choice of method.

`--write` stores the cases in `src/genus/plan/forecast/calibration.json`, which gives every forecast the width of its intervals.
`--small` fits 9 to 16 rows only, chosen at random from the fitted ones, as a sweep of one's own would have.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from genus.plan.fit import fit
from genus.plan.forecast import calibration
from genus.plan.forecast.calibration import Calibration, Case
from genus.plan.forecast.forecaster import Forecast, forecast
from genus.plan.table import Runs

REPOSITORY = Path(__file__).resolve().parent.parent
GADRE = ("c4_val", "openlm", "paloma_c4_en", "paloma_falcon-refinedweb", "paloma_redpajama", "paloma_ptb")
TOP, NEAR = 1.5, 0.03  # judged rows: within this factor of the largest compute, and this share of the best loss there
FAR = 0.04  # an error that should have been warned of
WIDE = Calibration((), 1.645, 0.0)  # before any case


@dataclass(frozen=True)
class Table:
    source: str
    runs: Runs
    primary: bool = True  # False: the same runs judged by another loss


def tables(folder: Path) -> Iterator[Table]:
    """Every shared table of training runs, in every setting."""
    isoflop = folder / "porian2024" / "isoflop_points.csv"
    rows = np.genfromtxt(isoflop, delimiter=",", names=True, dtype=None, encoding="utf-8")
    keys = ("dataset", "hparams", "warmup", "decay", "param_count", "loss_kind")
    for setting in dict.fromkeys(tuple(str(r[k]) for k in keys) for r in rows):
        part = rows[[tuple(str(r[k]) for k in keys) == setting for r in rows]]
        yield Table("porian", Runs(part["n"], part["tokens"], part["loss"], name=f"porian {' '.join(setting)}"))
    for data in ("c4_original", "rpj", "rw_original"):
        for loss in GADRE:
            runs = Runs.read(folder / "gadre2024" / "runs.csv", {"loss": f"loss_{loss}"}, {"dataset": data}, drop=True)
            yield Table("gadre", _named(runs, f"gadre {data.removesuffix('_original')} {loss}"), loss == GADRE[0])
    for kind in ("hot", "cool_end"):
        runs = Runs.read(folder / "gemstone" / f"wandb_df_for_fitting_{kind}.jsonl")
        yield Table("gemstone", _named(runs, f"gemstone {kind}"))
    runs = Runs.read(folder / "datablations" / "runs_all.csv")
    assert runs.unique is not None
    fresh = runs.tokens <= runs.unique * 1.001
    once = runs[fresh]
    yield Table("datablations", Runs(once.params, once.tokens, once.loss, name="datablations unique"))
    yield Table("datablations", _named(runs[~fresh | (runs.compute < runs.compute.max() / 10)], "datablations repeated"))


def held(folder: Path) -> Iterator[Table]:
    """A source on which no choice was made: loss on LAMBADA's last words of 7 Pythia models at 24 checkpoints each."""
    with gzip.open(folder / "pythia-evals" / "pythia_v1_evals.csv.gz", "rt") as file:
        rows = [r for r in csv.DictReader(file) if r["metric"] == "ppl" and float(r["tokens"]) > 3e9]
    for shots in ("zero", "five"):
        part = [{**r, "loss": math.log(float(r["value"])), "run": r["model"]} for r in rows if r["shots"] == shots]
        yield Table("pythia", Runs.from_rows(part, name=f"pythia lambada {shots}-shot"))


def _named(runs: Runs, name: str) -> Runs:
    return Runs(runs.params, runs.tokens, runs.loss, runs.run, runs.unique, name=name)


def split(runs: Runs, ratio: float) -> tuple[Runs, Runs]:
    """Rows to fit and rows to judge."""
    top = runs.compute > runs.compute.max() / TOP
    judged = runs[top]
    return runs[runs.compute <= runs.compute.max() / ratio * 1.0001], judged[judged.loss < judged.loss.min() * (1 + NEAR)]


def judge(source: str, made: Forecast, judged: Runs) -> Case:
    """One case: the medians over the judged rows."""
    error = np.log(made.predict(judged.params, judged.tokens, judged.unique).loss / judged.loss)
    deviation = made.deviation(judged.params, judged.tokens, judged.unique)
    ratio = made.ratio(judged.params, judged.tokens)
    values = (float(np.round(np.median(v), 6)) for v in (ratio, error, deviation))
    return Case(source, judged.name, *values)


def regret(made: Forecast, runs: Runs) -> float | None:
    """Loss of the size that the forecast would choose at the largest budget, over the best measured there, as a share."""
    top = runs[runs.compute > runs.compute.max() / 1.05]
    if len(np.unique(top.params)) < 4:
        return None
    chosen = made.predict(top.params, top.tokens, top.unique).loss.argmin()
    return float(top.loss[chosen] / top.loss.min() - 1)


def _plain(fitted: Runs, judged: Runs) -> float:
    form = "chinchilla" if fitted.unique is None else "repeated"
    try:
        law = fit(fitted, form)
    except ValueError:
        return float("nan")
    return float(np.median(np.log(law.predict(judged.params, judged.tokens, judged.unique) / judged.loss)))


@dataclass
class Result:
    case: Case
    primary: bool
    rows: int
    plain: float
    regret: float | None
    warnings: list[str]
    doubt: float
    seconds: float


def measure(data: list[Table], ratio: float) -> list[Result]:
    out = []
    for table in data:
        fitted, judged = split(table.runs, ratio)
        started = time.perf_counter()
        try:
            made = forecast(fitted, calibration=WIDE)
        except ValueError as error:
            print(f"{table.runs.name}: {error}", file=sys.stderr)
            continue
        seconds = time.perf_counter() - started
        case = judge(table.source, made, judged)
        lost = regret(made, table.runs)
        plain = _plain(fitted, judged)
        out.append(Result(case, table.primary, len(fitted), plain, lost, made.warnings, made.doubt, seconds))
    return out


def small(data: list[Table], ratio: float, repeats: int = 4) -> list[Result]:
    """The same with few rows: 3 or 4 sizes and 3 or 4 amounts of data each, of the smaller part of the table."""
    rng, out = np.random.default_rng(0), []
    for table in data:
        if not table.primary or table.runs.unique is not None:
            continue
        fitted, judged = split(table.runs, ratio)
        seen: set[bytes] = set()
        for repeat in range(repeats):
            rows = _few(fitted, rng)
            if rows is None or rows.compute.tobytes() in seen:
                continue
            seen.add(rows.compute.tobytes())
            started = time.perf_counter()
            made = forecast(rows, calibration=WIDE)
            seconds = time.perf_counter() - started
            case = judge(f"{table.source}", made, judged)
            case = Case(case.source, f"{case.name} #{repeat}", case.ratio, case.error, case.deviation)
            lost = regret(made, table.runs)
            out.append(Result(case, True, len(rows), _plain(rows, judged), lost, made.warnings, made.doubt, seconds))
    return out


def _few(runs: Runs, rng: np.random.Generator) -> Runs | None:
    """9 to 16 rows: sizes spread over the table, for each the rows that are near the best of their compute, spread in tokens."""
    from genus.plan.forecast.discrepancy import excess

    runs = runs[excess(runs) < 0.12]
    sizes = np.unique(runs.params)
    if len(sizes) < 3:
        return None
    count = int(rng.integers(3, 5))
    at = np.unique(np.round(np.linspace(rng.integers(0, 2), len(sizes) - 1, min(count, len(sizes)))).astype(int))
    index: list[int] = []
    for size in sizes[at]:
        own = np.flatnonzero(runs.params == size)
        own = own[np.argsort(runs.tokens[own])]
        index += list(own[np.unique(np.round(np.linspace(0, len(own) - 1, 4)).astype(int))])
    return runs[np.array(index)] if len(index) >= 8 else None


def report(results: list[Result], against: list[Case], title: str) -> dict[str, float]:
    """Print one table; the intervals of a case are calibrated on the cases of other sources in `against`."""
    print(f"\n## {title}\n")
    print("| table | rows | error % | interval ± % | in | five-parameter law % | regret % | seconds | warnings |")
    print("|---|---|---|---|---|---|---|---|---|")
    inside = []
    for r in results:
        scale = calibration.calibrate([c for c in against if c.source != r.case.source])
        half = float(scale.half_width(np.array(r.case.deviation), np.array(r.case.ratio)))
        inside.append(abs(r.case.error) <= half)
        lost = "" if r.regret is None else f"{100 * r.regret:.2f}"
        print(
            f"| {r.case.name} | {r.rows} | {100 * r.case.error:+.2f} | {100 * half:.1f} | {'yes' if inside[-1] else '**no**'} "
            f"| {100 * r.plain:+.2f} | {lost} | {r.seconds:.2f} | {' '.join(w.split(':')[0] for w in r.warnings)} |"
        )
    numbers = {}
    for name, chosen in (("all", results), ("primary", [r for r in results if r.primary])):
        error = np.abs([r.case.error for r in chosen])
        numbers |= {
            f"{name} cases": len(chosen),
            f"{name} median |error| %": 100 * float(np.median(error)),
            f"{name} largest |error| %": 100 * float(error.max()),
            f"{name} five-parameter median |error| %": 100 * float(np.nanmedian(np.abs([r.plain for r in chosen]))),
            f"{name} coverage, other sources %": 100 * float(np.mean([i for i, r in zip(inside, results) if r in chosen])),
        }
    for who, off in (("forecast", [abs(r.case.error) for r in results]), ("five-parameter law", [abs(r.plain) for r in results])):
        far = [r for r, e in zip(results, off) if e > FAR]
        numbers[f"{who} over {100 * FAR:g} % off: cases"] = len(far)
        numbers[f"{who} over {100 * FAR:g} % off: warned of"] = sum(bool(r.warnings) for r in far)
    numbers["warned of, all"] = sum(bool(r.warnings) for r in results)
    lost = [r.regret for r in results if r.regret is not None and r.primary]
    if lost:
        numbers["regret median %"] = 100 * float(np.median(lost))
    print("\n" + "\n".join(f"{k}: {v:.2f}" for k, v in numbers.items()))
    return numbers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("GENUS_DATA", str(REPOSITORY.parent / "shared" / "data")))
    parser.add_argument("--ratios", default="10,30", help="largest compute to the largest fitted one")
    parser.add_argument("--small", action="store_true", help="also fit 9 to 16 rows")
    parser.add_argument("--write", action="store_true", help="store the cases that calibrate every forecast")
    options = parser.parse_args()
    data = list(tables(Path(options.data) / "scaling"))
    ratios = [float(r) for r in options.ratios.split(",")]
    measured = {ratio: measure(data, ratio) for ratio in ratios}
    few = small(data, 10.0) if options.small else []
    cases = [r.case for results in [*measured.values(), few] for r in results]
    for ratio, results in measured.items():
        report(results, cases, f"{ratio:g} times the largest fitted compute")
    if few:
        report(few, cases, "10 times, from 9 to 16 rows")
    for ratio in ratios:
        report(measure(list(held(Path(options.data) / "scaling")), ratio), cases, f"a source never used before, {ratio:g} times")
    scale = calibration.calibrate(cases)
    print(f"\nmultiplier {scale.multiplier:.3f}, floor {100 * scale.floor:.2f} %; {json.dumps(scale.coverage())}")
    if options.write:
        path = REPOSITORY / "src" / "genus" / "plan" / "forecast" / calibration.PUBLISHED
        path.write_text(calibration.dump(cases, made_by="benchmarks/plan_extrapolation.py"), "utf-8")
        print(f"wrote {len(cases)} cases to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
