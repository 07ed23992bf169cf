"""How wide an interval must be: cases where a forecast met the truth.

Each case is a forecast of runs that were not used for it: how far it was off, and how far it said it might be. The cases that
come with the package are made by `benchmarks/plan_extrapolation.py` from published tables, and by `benchmarks/plan_verify.py`
from plans of small models that were carried out; `genus plan verify` adds your own to a file of yours, and later forecasts read
all of them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from genus.plan.table import Array
from genus.run import write_atomic

NOMINAL = 0.9
PUBLISHED, VERIFIED = "calibration.json", "verified.json"  # of published tables; of plans that were carried out
OWN = 5  # so many cases of one's own count as much as one published source
LARGE = 1e19  # operations of the largest fitted runs of published tables
FADES = 2.0  # powers of ten of operations from which a case counts half: small models keep to their laws less well


@dataclass(frozen=True)
class Case:
    """A forecast that met the truth.

    source: who trained the runs; name: which table. ratio: of the judged compute to the largest fitted. error: log(predicted /
    measured). deviation: the standard deviation that the forecast gave, before calibration. flops: of the largest fitted run;
    None = as in published tables.
    """

    source: str
    name: str
    ratio: float
    error: float
    deviation: float
    flops: float | None = None


@dataclass(frozen=True)
class Calibration:
    """cases, and what follows from them.

    multiplier: an interval reaches so many standard deviations to either side. floor: it is at least this wide (in log loss) to
    either side, times 1 + log10 of the compute ratio.
    """

    cases: tuple[Case, ...]
    multiplier: float
    floor: float

    def half_width(self, deviation: Array, ratio: Array) -> Array:
        """Half of the interval in log loss, from standard deviations and compute ratios."""
        return np.maximum(self.multiplier * deviation, self.floor * growth(ratio))

    def covers(self, case: Case) -> bool:
        return abs(case.error) <= float(self.half_width(np.array(case.deviation), np.array(case.ratio)))

    def coverage(self) -> dict[str, Any]:
        """Nominal and measured coverage; the measured one of each source with a calibration that knew only the others."""
        own: dict[str, float] = {}
        inside = total = 0
        for source in sorted({c.source for c in self.cases}):
            judged = [c for c in self.cases if c.source == source]
            others = [c for c in self.cases if c.source != source]
            if not others:
                continue
            hits = [calibrate(others, c.flops or LARGE).covers(c) for c in judged]
            own[source] = sum(hits) / len(hits)
            inside, total = inside + sum(hits), total + len(hits)
        return {"nominal": NOMINAL, "measured": inside / total if total else None, "cases": len(self.cases), "sources": own}


def growth(ratio: Array) -> Array:
    return 1 + np.log10(np.maximum(ratio, 1.0))


def calibrate(cases: Sequence[Case], flops: float | None = None) -> Calibration:
    """The floor and the multiplier under which the nominal share of the cases is covered, every source counting alike.

    The floor is half of what would cover that share alone: it holds where members agree by accident.

    Args:
        flops: of the largest run that is fitted; cases of a like scale count more. None = all scales count alike.
    """
    sources = {c.source: 0 for c in cases}
    for c in cases:
        sources[c.source] += 1
    weight = np.array([(min(1.0, sources[c.source] / OWN) if c.source == "own" else 1.0) / sources[c.source] for c in cases])
    if flops is not None:
        away = np.log10(np.array([c.flops or LARGE for c in cases]) / flops)
        weight /= 1 + (away / FADES) ** 2
    error = np.array([abs(c.error) for c in cases])
    spread = growth(np.array([c.ratio for c in cases]))
    floor = 0.5 * _quantile(error / spread, weight)
    beyond = np.where(error > floor * spread, error / np.array([c.deviation for c in cases]), 0.0)
    return Calibration(tuple(cases), _quantile(beyond, weight), floor)


def _quantile(values: Array, weight: Array) -> float:
    """The smallest value that covers the nominal share, of which one unseen case of average weight would still be part."""
    order = np.argsort(values)
    share = np.cumsum(weight[order]) / (weight.sum() + weight.mean())
    return float(values[order][min(int(np.searchsorted(share, NOMINAL)), len(values) - 1)])


def own_file() -> Path:
    """Where `verify` keeps your cases: $GENUS_CALIBRATION, else under the user's data folder."""
    given = os.environ.get("GENUS_CALIBRATION")
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Path(given) if given else base / "genus" / "calibration.json"


def load(path: str | Path | None = None, flops: float | None = None) -> Calibration:
    """The published cases and those of a file of yours (default `own_file`; it need not exist). flops: as of `calibrate`."""
    path = Path(path) if path is not None else own_file()
    return calibrate([*published(), *(read(path) if path.is_file() else [])], flops)


@cache
def published() -> tuple[Case, ...]:
    """The cases that come with the package."""
    folder = resources.files("genus.plan.forecast")
    return tuple(case for name in (PUBLISHED, VERIFIED) for case in _cases(folder.joinpath(name).read_text("utf-8"), name))


def read(path: str | Path) -> list[Case]:
    """Cases of a file.

    Raises:
        ValueError: it is not a calibration file.
    """
    return _cases(Path(path).read_text("utf-8"), str(path))


def append(case: Case, path: str | Path | None = None) -> Path:
    """Add a case of your own; the same name again replaces it. Returns the file."""
    if not (math.isfinite(case.error) and case.deviation > 0 and case.ratio > 0):
        raise ValueError(f"a case needs a finite error and a positive deviation and ratio, not {case}")
    path = Path(path) if path is not None else own_file()
    kept = [c for c in (read(path) if path.is_file() else []) if c.name != case.name]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, dump([*kept, case]))
    return path


def dump(cases: Sequence[Case], **more: Any) -> str:
    """The text of a calibration file."""
    lines = ",\n  ".join(json.dumps(asdict(c)) for c in cases)
    head = "".join(f" {json.dumps(k)}: {json.dumps(v)},\n" for k, v in {"format": 1, **more}.items())
    return "{\n" + head + f' "cases": [\n  {lines}\n ]\n}}\n'


def _cases(text: str, name: str) -> list[Case]:
    try:
        return [Case(**c) for c in json.loads(text)["cases"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{name} is not a calibration file ({error}); move it away, and verify starts a new one") from None
