"""What a user may say about a training run. The command line, Python and `run.json` share this one schema."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

PARTS = ("model", "objective", "training")  # of a recipe, which have no dot in their path


@dataclass(frozen=True)
class TrainOptions:
    """Attributes of a run that the recipe does not fix.

    Attributes:
        parameters: size to aim at; None = chosen from the budget, or the recipe's own when its shape is overridden.
        tokens, seconds, epochs: the budget; at most one. None of them = 20 tokens per parameter, at most 4 passes.
        batch, context, lr, dropout: None = the recipe's. micro: rows per forward pass; None = as many as fit 64 MB of logits.
        warmup: updates over which the learning rate rises; None = a share of the run (the schedule's, but at least 20 updates
        and at most a tenth; only the schedule's when the budget is in seconds).
        patience: evaluations without improvement before the run stops; 0 = never.
        average: the weights in the end are the mean over so many points of the last part of the run, 2 % apart; 0 = no mean.
        overrides: sizes such as `dim=128` (arguments of the recipe), and `path=value` on its tree, such as `training.batch=8`.
    """

    parameters: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    epochs: float | None = None
    batch: int | None = None
    micro: int | None = None
    context: int | None = None
    lr: float | None = None
    warmup: int | None = None
    optimizer: Literal["recipe", "adamw", "muon", "sgd"] = "recipe"
    schedule: Literal["recipe", "wsd", "cosine", "constant"] = "recipe"
    dropout: float | None = None
    seed: int = 0
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    eval_every: float = 60.0
    eval_tokens: int = 32768
    save_every: float = 300.0
    save_steps: int | None = None
    patience: int = 0
    average: int = 0
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = [n for n in ("tokens", "seconds", "epochs") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"give one budget, not {' and '.join(given)}")
        for name in ("parameters", "tokens", "seconds", "epochs", "batch", "micro", "context", "lr", "warmup", "eval_tokens"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be more than 0, not {value}")

        if self.average > 1 and self.patience:
            raise ValueError("give --average or --patience: a run that may stop anywhere has no last part to average over")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TrainOptions:
        """Inverse of `to_json`; keys of another version are left out."""
        known = {f.name for f in fields(cls)}
        kept = {k: v for k, v in value.items() if k in known}
        return cls(**{**kept, "overrides": tuple(kept.get("overrides", ()))})


def split_overrides(overrides: Iterable[str]) -> tuple[list[str], list[str]]:
    """Sizes (`dim=128`, arguments of a recipe's function) and fields of its tree (`model.stack.depth=8`, `objective=Causal`)."""
    overrides = list(overrides)
    sizes = [o for o in overrides if (key := o.partition("=")[0]) not in PARTS and "." not in key]
    return sizes, [o for o in overrides if o not in sizes]
