"""The verdict: what was predicted of a run before it was trained, against what it reached.

`RUN/prediction.json` was written before the first update and holds the hash of its plan. Where the plan is still there, the
prediction must be what the plan says. The achieved figure is the run's last evaluation, on the first tokens of the validation
split in the training's own rows: what the small runs of the plan were measured by.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from genus.plan.forecast.calibration import Case, append
from genus.plan.store import LEVEL, Choice, Plan
from genus.run import PREDICTION, Run, write_atomic

FILE = "verdict.json"  # in the run
CLOSE = {"params": 0.1, "tokens": 0.02}  # so far the run may be from what was planned; a counted model's size is a guess


@dataclass(frozen=True)
class Verdict:
    """What became of a prediction.

    Attributes:
        run: its folder. branch: of the plan. recommended: whether the plan recommended it. hash: of the plan.
        predicted, low, high: bits per byte, with the interval of `level`. achieved: at the end of the run.
        params, tokens, seconds: {"predicted", "used"}. notes: what a reader must know to judge.
        fair: whether the run was the one predicted: its data, size and tokens.
        deviation, ratio: of the prediction, for the calibration (`plan.forecast.calibration.Case`); None where it does not say.
    """

    run: str
    branch: str
    hash: str
    predicted: float
    low: float
    high: float
    achieved: float
    params: dict[str, float | None]
    tokens: dict[str, float | None]
    seconds: dict[str, float | None]
    recommended: bool = True
    level: float = LEVEL
    notes: list[str] = field(default_factory=list)
    fair: bool = True
    deviation: float | None = None
    ratio: float | None = None

    @property
    def error(self) -> float:
        """Achieved minus predicted, in parts of the achieved."""
        return (self.achieved - self.predicted) / self.achieved

    @property
    def inside(self) -> bool:
        return self.low <= self.achieved <= self.high

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "error": self.error, "inside": self.inside}

    def __str__(self) -> str:
        place = "inside" if self.inside else "above" if self.achieved > self.high else "below"
        return (
            f"predicted {self.predicted:.4f} bits per byte ({self.low:.4f} to {self.high:.4f} with {self.level:.0%}), "
            f"achieved {self.achieved:.4f}: {place}{'' if self.inside else ' the interval'}, {self.error:+.2%}"
        )


def verify(path: str | Path) -> Verdict:
    """Compare, and write `RUN/verdict.json`.

    Raises:
        FileNotFoundError: there is no run, or it began without a prediction.
        ValueError: the run is unfinished, was not evaluated, or its prediction was changed after it was written.
    """
    run = Run.open(path)
    prediction = _prediction(run.path)
    doubts = _same_as_plan(prediction, run.path)
    finished = run.config.get("finished")
    if not finished:
        raise ValueError(f"{path} is not finished; continue it with: genus train --resume {path}")
    achieved = (finished.get("validation") or {}).get("bpb")
    if achieved is None:
        raise ValueError(f"{path} was not evaluated: its data has no validation split to check a prediction on")
    target, differences = prediction["target"], _differences(prediction, run.config, finished)
    refused = finished.get("refused_updates")
    verdict = Verdict(
        run=str(Path(path).resolve()),
        branch=prediction["branch"],
        hash=prediction["hash"],
        predicted=prediction["bpb"],
        low=prediction["low"],
        high=prediction["high"],
        achieved=achieved,
        params={"predicted": target.get("params"), "used": run.config.get("parameters")},
        tokens={"predicted": target.get("tokens"), "used": finished.get("tokens")},
        seconds={"predicted": target.get("seconds"), "used": finished.get("seconds")},
        recommended=bool(prediction.get("recommended", True)),
        level=prediction.get("level", LEVEL),
        notes=[*differences, *doubts, *([f"{refused} updates were refused during the run"] if refused else [])],
        fair=not differences,
        deviation=prediction.get("deviation"),
        ratio=prediction.get("ratio"),
    )
    write_atomic(run.path / FILE, json.dumps(verdict.to_json(), indent=1, ensure_ascii=False) + "\n")
    return verdict


def record(verdict: Verdict) -> Path | None:
    """Add the case to the user's calibration file, which later forecasts read; judged again, it replaces itself.

    None where it is no case: the run was not the one predicted, or the prediction does not say how uncertain it was.
    """
    if not verdict.fair or verdict.deviation is None or verdict.ratio is None:
        return None
    name = f"{verdict.branch}, {verdict.params['predicted']:,.0f} parameters, plan {verdict.hash[:12]}"
    error = math.log(verdict.predicted / verdict.achieved)
    params, tokens = verdict.params["predicted"], verdict.tokens["predicted"]
    flops = 6 * params * tokens / verdict.ratio if params and tokens else None
    return append(Case("own", name, verdict.ratio, error, verdict.deviation, flops))


def _prediction(path: Path) -> dict[str, Any]:
    file = path / PREDICTION
    if not file.is_file():
        raise FileNotFoundError(f"{path} began without a prediction (it has no {PREDICTION}); genus train PLAN writes one")
    try:
        prediction = json.loads(file.read_text(encoding="utf-8"))
        missing = [k for k in ("branch", "hash", "bpb", "low", "high", "target") if prediction.get(k) is None]
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} is damaged ({error}), so there is nothing left to check") from error
    if missing:
        raise ValueError(f"{file} has no {', '.join(missing)}, so there is nothing to check")
    return dict(prediction)


def _same_as_plan(prediction: dict[str, Any], path: Path) -> list[str]:
    """Where the plan is still the one that predicted, the prediction must be one of its own; else a note that nobody can tell."""
    if not prediction.get("plan") or not Path(prediction["plan"]).is_dir():
        return []
    try:
        plan = Plan.open(prediction["plan"])
    except (OSError, ValueError) as error:
        return [f"the prediction could not be compared with its plan: {error}"]
    if plan.hash != prediction["hash"]:
        return [f"{plan.root} holds another plan by now, so the prediction could not be compared with its own"]
    figures = tuple(prediction[k] for k in ("bpb", "low", "high"))

    def said(choice: Choice) -> tuple[float, float, float]:
        return choice.loss, choice.low, choice.high

    if figures not in map(said, plan.choices().values()):
        raise ValueError(f"{path / PREDICTION} was changed after it was written: its plan, {plan.root}, says something else")
    return []


def _differences(prediction: dict[str, Any], config: dict[str, Any], finished: dict[str, Any]) -> list[str]:
    """Where the run was not quite the one that was predicted."""
    notes, target = [], prediction["target"]
    for name, used in (("params", config.get("parameters")), ("tokens", finished.get("tokens"))):
        planned, word = target.get(name), {"params": "parameters", "tokens": "training tokens"}[name]
        if planned and used and abs(used / planned - 1) > CLOSE[name]:
            notes.append(f"the run had {used:,.0f} {word}, the prediction is for {planned:,.0f}")
    fingerprint = (config.get("data") or {}).get("fingerprint")
    if prediction.get("fingerprint") not in (None, fingerprint):
        notes.append("the run was trained on other data than the plan was made for")
    return notes
