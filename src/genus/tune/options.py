"""What a user may say about tuning. The command line, Python and `run.json` share this one schema."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from genus.tune.task import Wishes


@dataclass(frozen=True)
class TuneOptions:
    """Attributes of a tuned run.

    Attributes:
        task, text, pair, label: as in `Wishes`. validation, test: files of labelled rows; None = cut from LABELS.
        method: "full", "frozen", "lora", "dora". layer_decay: factor on the learning rate per layer further down (full).
        rank, alpha: of LoRA; targets: names of the matrices it is added to, () = all inside the layers.
        epochs, batch, lr, dropout, context: None = chosen from the number of rows and the base, and printed. rate: factor on
            the learning rate that is chosen; None = tried on validation rows (`genus.tune.rate`).
        seeds: how often the whole is repeated; None = 3, or 1 with folds. folds: of cross-validation; 0 = repeated splits.
        patience: evaluations without improvement before a fit stops; 0 = never. refit: train the final model on all rows.
        compare: measure the other ways of using the labels too. unlabelled: a prepared data folder: tokenizer of a recipe,
            text for continued pre-training. overrides: sizes and `path=value` of a recipe.
        tokens, seconds, replay, replay_share: of continued pre-training, where the labels are a prepared data folder: the budget
            (or epochs), earlier data that is measured too, and the share of the rows that come from it.
    """

    task: str | None = None
    text: str | None = None
    pair: str | None = None
    label: str | None = None
    validation: str | None = None
    test: str | None = None
    method: str = "full"
    layer_decay: float = 1.0
    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ()
    epochs: float | None = None
    batch: int | None = None
    lr: float | None = None
    rate: float | None = None
    dropout: float | None = None
    context: int | None = None
    seed: int = 0
    seeds: int | None = None
    folds: int = 0
    patience: int = 8
    refit: bool = True
    compare: bool = False
    unlabelled: str | None = None
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    save_every: float = 300.0
    save_steps: int | None = None
    overrides: tuple[str, ...] = ()
    tokens: int | None = None
    seconds: float | None = None
    replay: str | None = None
    replay_share: float = 0.1
    eval_tokens: int = 32768

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "lr", "rate", "context", "seeds", "rank", "tokens", "seconds", "eval_tokens"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be more than 0, not {value}")
        if self.folds == 1 or self.folds < 0:
            raise ValueError(f"folds must be 2 or more (or 0 for repeated splits), not {self.folds}")

    @property
    def wishes(self) -> Wishes:
        return Wishes(self.task, self.text, self.pair, self.label)

    @property
    def repeats(self) -> int:
        """Seeds that are used."""
        return self.seeds or (1 if self.folds else 3)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TuneOptions:
        """Inverse of `to_json`; keys of another version are left out."""
        known = {f.name for f in fields(cls)}
        kept = {k: v for k, v in value.items() if k in known}
        return cls(**{**kept, **{k: tuple(kept.get(k, ())) for k in ("overrides", "targets")}})
