"""Is the adapter that was written, on its base, the model that was tuned?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genus.export import huggingface
from genus.train.grow import grow
from genus.tune.adapters.peft import load_peft, new_tokens, read_config
from genus.tune.adapters.rewrite import adapted, detach, merge

CLOSE = 1e-5  # of the largest weight: sums of float32 in another order


@dataclass(frozen=True)
class Check:
    """What the comparison found.

    Attributes:
        base: the model folder. matrices: changed. rank: the largest. difference: of any weight. tokens: that the base does not
            know, whose rows the adapter holds. longer: entries of the table that they need; None = the base has room for them.
    """

    base: str
    matrices: int
    rank: int
    difference: float
    tokens: int = 0
    longer: int | None = None


@torch.no_grad()
def verify(folder: str | Path, model: nn.Module, problem: str | None = None) -> Check:
    """Put the adapter in `folder` on its base and compare the weights with those of the tuned model, its changes merged.

    Raises:
        FileNotFoundError: the base is not where the adapter says.
        ValueError: they are not the same model.
    """
    config = read_config(Path(folder))
    base = config.get("base_model_name_or_path")
    if not base or not Path(base).is_dir():
        raise FileNotFoundError(f"{folder} changes a model that is not here ({base}); put its folder back")
    spec: Any = model.spec
    tokens = new_tokens(config)
    given, before, _ = huggingface.load(base)
    known: Any = before
    weights = given.state_dict()
    if tokens:  # the table is lengthened as tuning did it
        weights = grow(known, weights, min(tokens), spec.embed.vocab)[1]
    again = spec.build(0)
    for name, p in again.named_parameters():
        if name in weights and weights[name].shape == p.shape:
            p.copy_(weights[name])
    load_peft(again, folder, problem)
    changes = adapted(again)
    rank = max(change.rank for _, change in changes.values())
    merge(again)
    detach(again)
    tuned = dict(model.named_parameters())
    worst = max(
        ((float((p - tuned[n]).abs().max() / tuned[n].abs().max().clamp(min=1e-12)), n) for n, p in again.named_parameters())
    )
    if worst[0] > CLOSE:
        raise ValueError(
            f"{folder} on {base} is not the model that was tuned: {worst[1]} differs by {worst[0]:.2g} of its largest weight. "
            "The base has changed since, or more of it than an adapter holds; export the whole with --to hf"
        )
    longer = spec.embed.vocab if spec.embed.vocab > known.embed.vocab else None
    return Check(str(base), len(changes), rank, worst[0], len(tokens), longer)
