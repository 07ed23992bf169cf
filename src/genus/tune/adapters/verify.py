"""Is the adapter that was written, on its base, the model that was tuned?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genus.export import huggingface
from genus.tune.adapters.peft import load_peft, read_config
from genus.tune.adapters.rewrite import adapted, detach, merge

CLOSE = 1e-5  # of the largest weight: sums of float32 in another order


@dataclass(frozen=True)
class Check:
    """What the comparison found. base: the model folder. matrices: changed. rank: the largest. difference: of any weight."""

    base: str
    matrices: int
    rank: int
    difference: float


@torch.no_grad()
def verify(folder: str | Path, model: nn.Module, problem: str | None = None) -> Check:
    """Put the adapter in `folder` on its base and compare the weights with those of the tuned model, its changes merged.

    Raises:
        FileNotFoundError: the base is not where the adapter says.
        ValueError: they are not the same model.
    """
    base = read_config(Path(folder)).get("base_model_name_or_path")
    if not base or not Path(base).is_dir():
        raise FileNotFoundError(f"{folder} changes a model that is not here ({base}); put its folder back")
    given = huggingface.load(base)[0].state_dict()
    spec: Any = model.spec
    again = spec.build(0)
    for name, p in again.named_parameters():
        if name in given and given[name].shape == p.shape:
            p.copy_(given[name])
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
            "The base has changed since, or more of it than an adapter holds (a longer vocabulary); export the whole with --to hf"
        )
    return Check(str(base), len(changes), rank, worst[0])


def _far(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))
