"""Optimisers by the recipe's specification and the parameters' shapes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from genus.recipes.training import SGD, AdamW, Muon, Optimizer

Optimizers = list[torch.optim.Optimizer]


def build(spec: Optimizer, model: nn.Module, lr: float) -> Optimizers:
    """One or two optimisers that together own every trainable parameter.

    Weight decay falls on matrices, not on vectors or token tables' norms. Muon takes the hidden matrices; tables, the read-out
    and vectors go to AdamW. Fused kernels are used where torch has them (4 times faster on the CPU than the default).
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if isinstance(spec, SGD):
        groups = _decayed([p for _, p in named], spec.weight_decay)
        return [torch.optim.SGD(groups, lr=lr, momentum=spec.momentum, fused=True)]
    if isinstance(spec, Muon):
        hidden = [p for n, p in named if p.dim() == 2 and n.startswith(("stack.", "encoder."))]
        taken = {id(p) for p in hidden}
        rest = _decayed([p for _, p in named if id(p) not in taken], spec.weight_decay)
        muon = torch.optim.Muon(
            hidden, lr=lr, weight_decay=spec.weight_decay, momentum=spec.momentum, adjust_lr_fn="match_rms_adamw"
        )
        return [muon, torch.optim.AdamW(rest, lr=lr, betas=(spec.beta1, spec.beta2), fused=True)]
    if isinstance(spec, AdamW):
        groups = _decayed([p for _, p in named], spec.weight_decay)
        return [torch.optim.AdamW(groups, lr=lr, betas=(spec.beta1, spec.beta2), eps=spec.eps, fused=True)]
    raise ValueError(f"no optimiser is known for {type(spec).__name__}")


def _decayed(parameters: list[nn.Parameter], decay: float) -> list[dict[str, object]]:
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return [g for g in groups if g["params"]]


def set_rate(optimizers: Optimizers, lr: float) -> None:
    """Set the learning rate of every group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Euclidean norm of all gradients together, as a float32 scalar."""
    grads = [p.grad for p in parameters if p.grad is not None]
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))


def step(optimizers: Optimizers, divisor: Tensor) -> None:
    """Update with every gradient divided by `divisor` (a scalar tensor; 1 = as it is).

    The fused kernels divide on the fly, so that clipping costs no pass of its own over the gradients.
    """
    for optimizer in optimizers:
        if optimizer.defaults.get("fused"):
            optimizer.grad_scale = divisor  # type: ignore[attr-defined]
            optimizer.found_inf = torch.zeros((), device=divisor.device)  # type: ignore[attr-defined]
        elif float(divisor) != 1.0:
            torch._foreach_div_([p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None], divisor)
        optimizer.step()
