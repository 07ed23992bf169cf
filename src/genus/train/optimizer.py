"""Optimisers by the recipe's specification and the parameters' shapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from genus.recipes.parametrisation import Parametrisation, Standard
from genus.recipes.training import SGD, AdamW, Muon, Optimizer
from genus.train import muon

Optimizers = list[torch.optim.Optimizer]
STANDARD = Standard()


def build(spec: Optimizer, model: nn.Module, lr: float, parametrisation: Parametrisation = STANDARD) -> Optimizers:
    """One or two optimisers that together own every trainable parameter; those that are frozen have no place in them.

    Weight decay falls on matrices, not on vectors or token tables' norms. Muon takes the hidden matrices; tables, the read-out
    and vectors go to AdamW. Fused kernels are used where torch has them (4 times faster on the CPU than the default). The
    parametrisation's factors on the learning rate are kept in the groups.

    Raises:
        ValueError: everything is frozen, or the parametrisation has no rules for this optimiser.
    """
    scales = parametrisation.scales(model)
    named = [(n, p, scales[n]) for n, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise ValueError("every parameter of this model is frozen; nothing is left to train")
    if isinstance(spec, SGD):
        if parametrisation != STANDARD:
            raise ValueError(f"{type(parametrisation).__name__} has no rules for SGD; choose --optimizer adamw")
        groups = _groups([(p, 1.0, 1.0) for _, p, _ in named], lr, spec.weight_decay, None)
        return [torch.optim.SGD(groups, lr=lr, momentum=spec.momentum, fused=True)]
    if isinstance(spec, Muon):
        hidden = [(n, p, s) for n, p, s in named if p.dim() == 2 and n.startswith(("stack.", "encoder."))]
        taken = {n for n, _, _ in hidden}
        rest = _groups([(p, s.rate, s.eps) for n, p, s in named if n not in taken], lr, spec.weight_decay, 1e-8)
        groups = _groups([(p, s.orthogonal, 1.0) for _, p, s in hidden], lr, spec.weight_decay, None)
        found: Optimizers = []
        if groups:
            found.append(muon.Muon(groups, lr, spec.momentum))
        if rest:
            found.append(torch.optim.AdamW(rest, lr=lr, betas=(spec.beta1, spec.beta2), fused=True))
        return found
    if isinstance(spec, AdamW):
        groups = _groups([(p, s.rate, s.eps) for _, p, s in named], lr, spec.weight_decay, spec.eps)
        return [torch.optim.AdamW(groups, lr=lr, betas=(spec.beta1, spec.beta2), fused=True)]
    raise ValueError(f"no optimiser is known for {type(spec).__name__}")


def _groups(
    parameters: list[tuple[nn.Parameter, float, float]], lr: float, decay: float, eps: float | None
) -> list[dict[str, Any]]:
    """Groups of parameters (each with its factors on the learning rate and on `eps`) that are treated alike, matrices first.

    A factor on the rate does not reach the decay, so that weights fade at the same pace whatever their factor.
    """
    groups: dict[tuple[bool, float, float], dict[str, Any]] = {}
    for matrices in (True, False):
        for p, factor, small in parameters:
            if (p.dim() > 1) == matrices:
                group = {"params": [], "lr": lr * factor, "factor": factor, "weight_decay": decay / factor if matrices else 0.0}
                if eps is not None:
                    group["eps"] = eps * small
                groups.setdefault((matrices, factor, small), group)["params"].append(p)
    return list(groups.values())


def set_rate(optimizers: Optimizers, lr: float) -> None:
    """Set the learning rate of every group to `lr` times the group's factor."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group["factor"]


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Euclidean norm of all gradients together, as a float32 scalar."""
    grads = [p.grad for p in parameters if p.grad is not None]
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))


def fused(optimizers: Optimizers) -> bool:
    """Whether all of them can be told on the device not to update."""
    return all(optimizer.defaults.get("fused") for optimizer in optimizers)


def step(optimizers: Optimizers, divisor: Tensor, refused: Tensor | None = None) -> None:
    """Update with every gradient divided by `divisor` (a scalar tensor; 1 = as it is).

    The fused kernels divide on the fly, so that clipping costs no pass of its own over the gradients.

    Args:
        refused: a bool beside the weights, for optimisers that are `fused`: where it is true nothing is updated.
    """
    for optimizer in optimizers:
        if optimizer.defaults.get("fused"):
            optimizer.grad_scale = divisor  # type: ignore[attr-defined]
            stop = torch.zeros((), device=divisor.device) if refused is None else refused.float()
            optimizer.found_inf = stop  # type: ignore[attr-defined]
        elif not divisor.is_cpu or float(divisor) != 1.0:  # a device is not asked
            torch._foreach_div_([p.grad for g in optimizer.param_groups for p in g["params"] if p.grad is not None], divisor)
        optimizer.step()
