"""The plan on disk: `PLAN/plan.json`, hashed over its content, so that a prediction cannot be bettered afterwards.

    format, genus    version of this form, and of the library that wrote it
    hash             sha256 of everything else
    data             path, fingerprint, tokens, bytes, bytes_per_token, vocab of the training split
    options          what was wished (`PlanOptions`)
    budget           seconds: all of it; sweep: spent on the small runs; train: left for the run
    machine          what the seconds are of
    branches         by name: `Branch`
    recommendation   `Choice`; alternatives: more of them (the runners-up, and half and twice the recommended size)
    crossings        {"first", "second", "low", "middle", "high"}: seconds at which `second` overtakes `first`; null = never
    advice           sentences for the reader, the most important first
    identifiability  by branch; rolling: lines of the rolling-origin table, each with its branch; coverage: of the intervals
    warnings         reasons to trust all of it less

Numbers that are not finite are stored as null.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from genus import __version__
from genus.plan.options import PlanOptions
from genus.run import write_atomic

FILE = "plan.json"
FORMAT = 1
LEVEL = 0.9  # of every interval

Json = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """A run that may be trained, and what is predicted of it.

    Attributes:
        branch: its name in the plan. recipe: name of a recipe, or the path of the model that is trained further.
        params: parameters in all. tokens: to train on, repeats counted. seconds: predicted training time on this machine.
        loss, low, high: predicted validation figure in bits per byte with its 90 % interval.
        memory: peak bytes of the training. decode: seconds per generated token. None where not known.
        probability: of being the best branch at this budget.
        options: `TrainOptions` as JSON. curve: {"tokens", "bpb", "low", "high"}: the same run, had it been cooled down earlier.
        why, would_change: sentences. name: by which it is chosen; "" = the branch.
        deviation, ratio: of log loss before calibration, and of its compute to the largest small run: for `plan.calibration`.
    """

    branch: str
    recipe: str
    params: float
    tokens: float
    seconds: float
    loss: float
    low: float
    high: float
    memory: float | None = None
    decode: float | None = None
    probability: float | None = None
    options: Json = field(default_factory=dict)
    curve: list[Json] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    would_change: list[str] = field(default_factory=list)
    name: str = ""
    deviation: float | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Branch:
    """What was measured of one branch, and what follows.

    Attributes:
        status: "alive", "dropped" (the extrapolation says it cannot win), "refused" (cannot be trained here) or "failed".
        reason: of the status. best: at the budget; None when there is no forecast.
        frontier: by "seconds", "flops", "memory" and "decode": {"budgets", "params", "tokens", "loss", "low", "high"}, lists: the
        best that each budget buys. isoflop: {"flops", "params", "loss"}: the loss of each size for the same operations.
        trials: of the small runs, as the sweep stored them. rows: the points that were fitted, {"params", "tokens", "loss",
        "seconds", "flops", "predicted"}. ladder: the sizes there are. cost, forecast: as their classes write themselves.
    """

    recipe: str
    status: str = "alive"
    reason: str = ""
    best: Choice | None = None
    frontier: Json = field(default_factory=dict)
    isoflop: list[Json] = field(default_factory=list)
    trials: list[Json] = field(default_factory=list)
    rows: list[Json] = field(default_factory=list)
    ladder: list[Json] = field(default_factory=list)
    cost: Json = field(default_factory=dict)
    forecast: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A plan; the module's text says what its fields hold. `root` is where it was read or written."""

    data: Json
    options: PlanOptions
    budget: Json
    machine: Json
    branches: dict[str, Branch]
    recommendation: Choice
    alternatives: list[Choice] = field(default_factory=list)
    crossings: list[Json] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    identifiability: Json = field(default_factory=dict)
    rolling: list[Json] = field(default_factory=list)
    coverage: Json = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    genus: str = __version__
    root: Path | None = field(default=None, compare=False)

    @property
    def hash(self) -> str:
        """Of the content; the folder does not matter."""
        return _hash(self.to_json())

    def to_json(self) -> Json:
        """Everything but the hash, in plain JSON."""
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "root"}
        content |= {"format": FORMAT, "options": self.options.to_json()}
        content["branches"] = {name: asdict(branch) for name, branch in self.branches.items()}
        content["recommendation"] = asdict(self.recommendation)
        content["alternatives"] = [asdict(choice) for choice in self.alternatives]
        return plain(content)  # type: ignore[no-any-return]

    def write(self, folder: str | Path) -> Plan:
        """Write `plan.json`, replacing an older one at once or not at all. Returns the plan with its `root`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = self.to_json()
        text = json.dumps({"format": FORMAT, "hash": _hash(content), **content}, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomic(folder / FILE, text + "\n")
        return Plan.open(folder)

    @classmethod
    def open(cls, path: str | Path) -> Plan:
        """Read a plan from its folder, or from the file itself.

        Raises:
            FileNotFoundError: there is none. ValueError: it is damaged, was changed after it was written, or is of a later form.
        """
        path = Path(path)
        file = path / FILE if path.is_dir() or path.name != FILE else path
        if not file.is_file():
            begun = (
                f"{_KEPT}, so the same genus plan command goes on" if path.is_dir() else "make one with genus plan DATA -o PLAN"
            )
            raise FileNotFoundError(f"{path} is not a plan: it has no {FILE}; {begun}")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            stored, version = content.pop("hash"), content["format"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is damaged ({error}); {_AGAIN}") from error
        if version != FORMAT:
            raise ValueError(f"{file} has form {version}, and this version of Genus reads form {FORMAT}; {_AGAIN}")
        if _hash(content) != stored:
            raise ValueError(f"{file} was changed after it was written (its hash was {stored[:12]}); {_AGAIN}")
        return cls._from_json(content, file.parent)

    @classmethod
    def _from_json(cls, content: Json, root: Path) -> Plan:
        known = {f.name for f in fields(cls)} - {"root"}
        values = {k: v for k, v in content.items() if k in known}
        values["options"] = PlanOptions.from_json(values["options"])
        values["branches"] = {name: _branch(branch) for name, branch in values["branches"].items()}
        values["recommendation"] = Choice(**values["recommendation"])
        values["alternatives"] = [Choice(**choice) for choice in values["alternatives"]]
        return cls(**values, root=root)

    def choices(self) -> dict[str, Choice]:
        """Every run that may be trained, by name: the recommended one first."""
        best = [branch.best for branch in self.branches.values() if branch.best is not None]
        found: dict[str, Choice] = {}
        for choice in (self.recommendation, *self.alternatives, *best):
            found.setdefault(choice.name or choice.branch, choice)
        return found

    def choice(self, name: str | None = None) -> Choice:
        """The recommended run, or another of the plan's.

        Raises:
            ValueError: the plan has none of that name.
        """
        choices = self.choices()
        if name is None:
            return self.recommendation
        if name not in choices:
            branch = self.branches.get(name)
            reason = f" ({branch.reason or branch.status})" if branch else ""
            raise ValueError(f"the plan has no run {name!r}{reason}, only {', '.join(choices)}")
        return choices[name]

    def prediction(self, choice: Choice) -> Json:
        """What `prediction.json` of a run says, written before the run is trained and read by `genus plan verify`."""
        return plain(  # type: ignore[no-any-return]
            {
                "plan": None if self.root is None else str(self.root.resolve()),
                "hash": self.hash,
                "branch": choice.branch,
                "recommended": choice == self.recommendation,
                "fingerprint": self.data.get("fingerprint"),
                "target": {"params": choice.params, "tokens": choice.tokens, "seconds": choice.seconds},
                "level": LEVEL,
                "bpb": choice.loss,
                "low": choice.low,
                "high": choice.high,
                "deviation": choice.deviation,
                "ratio": choice.ratio,
                "curve": choice.curve,
            }
        )


_KEPT = "what was measured in it is kept"
_AGAIN = f"a plan is a prediction and is not edited; give the same genus plan command again ({_KEPT})"


def _branch(content: Json) -> Branch:
    known = {f.name for f in fields(Branch)}
    values = {k: v for k, v in content.items() if k in known}
    best = values.get("best")
    return Branch(**{**values, "best": None if best is None else Choice(**best)})


def _hash(content: Json) -> str:
    text = json.dumps({k: v for k, v in content.items() if k != "hash"}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """The value in lists, dicts, numbers and texts: arrays become lists, paths texts, and what is not finite None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
