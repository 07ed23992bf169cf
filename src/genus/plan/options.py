"""What a user may say about a plan. The command line, Python and `plan.json` share this one schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

BPB = "bpb"
BRANCHES = ("ngram", "lstm", "gpt", "llama", "deltanet", "hybrid")


@dataclass(frozen=True)
class PlanOptions:
    """Wishes and limits, beside the data and the budget in seconds.

    Attributes:
        branches: names that `genus.plan.branches` knows, or recipes.
        target: BPB, validation bits per byte; or what the recommended branch must be able to learn: the task of a probe that
            trains, or of a file of labels.
        memory: most bytes that the training may take; None = what the machine has.
        serve: tokens that will be generated per day; None = the cost of decoding is shown but decides nothing.
        share: of the budget that the small runs may take.
        price: of an hour of this machine, in any currency; None = no money is spoken of.
        base: a model that may be trained further instead (a run, or a folder in Hugging Face layout).
        engine: what runs the small runs: "local", "local:2" (processes), "ray", "ray://HOST:PORT", "slurm", "slurm:PARTITION".
        context, batch: of every run; None = chosen.
        cores: processes of the local engine; None = those of the machine.
    """

    branches: tuple[str, ...] = BRANCHES
    target: str = BPB
    memory: int | None = None
    serve: float | None = None
    share: float = 0.15
    price: float | None = None
    base: Path | None = None
    engine: str = "local"
    context: int | None = None
    batch: int | None = None
    seed: int = 0
    cores: int | None = None

    def __post_init__(self) -> None:
        if not self.branches:
            raise ValueError(f"a plan needs at least one branch, such as --branches {','.join(BRANCHES)}")
        if len(set(self.branches)) < len(self.branches):
            raise ValueError(f"a branch is named twice: {','.join(self.branches)}")
        if not 0 < self.share < 1:
            raise ValueError(f"the share of the budget for the small runs must lie between 0 and 1, not {self.share:g}")
        for name in ("memory", "serve", "price", "context", "batch", "cores"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be more than 0, not {value:g}")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "branches": list(self.branches), "base": None if self.base is None else str(self.base)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PlanOptions:
        """Inverse of `to_json`; keys of another version are left out."""
        known = {f.name for f in fields(cls)}
        kept = {k: v for k, v in value.items() if k in known}
        base = kept.get("base")
        return cls(**{**kept, "branches": tuple(kept["branches"]), "base": None if base is None else Path(base)})
