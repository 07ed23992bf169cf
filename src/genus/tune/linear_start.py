"""Linear start: on a sentence encoder's vector a read-out of classes begins as the best linear one, and all learn from there.

A random read-out sends gradients into the layers that have more to do with its weights than with the labels, and few labels
give too few updates to mend both (Kumar et al. 2022, "Fine-tuning can distort pretrained features and underperform
out-of-distribution", section 3.4: first a linear probe, then fine-tuning). It pays where the read-out reads a vector that was
trained to tell texts apart; behind BERT's pooler it did not (LAB.md).

Shapes: N texts that have a label, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genus.objectives.labelled import Classify, outputs, said
from genus.objectives.objective import Objective
from genus.ops.cross_entropy import IGNORE
from genus.parts.model import Model
from genus.parts.task_head import Vectors
from genus.tune.examples import by_length
from genus.tune.task import Example

READ_AT_ONCE = 8192  # tokens of a batch that is only read
MOST = 2000  # examples that are looked at; with more labels the start matters little
PENALTY = 100.0  # on half the squared weights of coordinates with variance 1: 1 / C of `linear.OnVectors` with few rows
STEPS = 100  # of L-BFGS


def pays(base: Model, objective: Objective) -> bool:
    """Whether a new read-out should begin so: of whole texts' classes, on the vector that a sentence encoder states."""
    return isinstance(base.head, Vectors) and base.head.take is not None and isinstance(objective, Classify) and objective.whole


def begin(model: nn.Module, objective: Objective, examples: Sequence[Example], dtype: torch.dtype = torch.float32) -> bool:
    """Fit the linear layer of a read-out of classes to the examples, in place; nothing else of the model moves.

    Returns:
        whether it was done: not where all labels are of one class.
    """
    head: Any = model.head
    x_ND, y_N = _read(model, head.proj, objective, examples, dtype)
    if len(y_N.unique()) < 2:
        return False
    weight, bias = fitted(x_ND, y_N, head.spec.outputs, head.spec.bias)
    with torch.no_grad():
        head.proj.weight.copy_(weight)
        if head.spec.bias:
            head.proj.bias.copy_(bias)
    return True


def fitted(x_ND: Tensor, y_N: Tensor, classes: int, bias: bool = True) -> tuple[Tensor, Tensor]:
    """(K, D) and (K,) of a logistic regression, its coordinates brought to variance 1 (and to mean 0 where it has a bias)."""
    mean = x_ND.mean(0) if bias else torch.zeros_like(x_ND[0])
    scale = (x_ND - mean).square().mean(0).sqrt().clamp(min=1e-6)
    z_ND = (x_ND - mean) / scale
    weight = torch.zeros(classes, x_ND.shape[1], device=x_ND.device, requires_grad=True)
    shift = torch.zeros(classes, device=x_ND.device, requires_grad=bias)
    search = torch.optim.LBFGS([weight, shift] if bias else [weight], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        total = F.cross_entropy(F.linear(z_ND, weight, shift), y_N, reduction="sum") + PENALTY / 2 * weight.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        search.step(loss)  # type: ignore[arg-type]
    found = weight.detach() / scale
    return found, shift.detach() - found @ mean


@torch.no_grad()
def _read(
    model: Any, layer: nn.Module, objective: Objective, examples: Sequence[Example], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """What the layer is given for each text that has a label, and the labels."""
    seen: list[Tensor] = []
    listener = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].float()))
    vectors, labels = [], []
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        for numbers in by_length(examples[:MOST], READ_AT_ONCE):
            batch = objective.batch([examples[i] for i in numbers]).to(device)
            outputs(model, batch, dtype)
            target = said(batch)
            known = target != IGNORE
            vectors.append(seen.pop()[known])
            labels.append(target[known])
    finally:
        listener.remove()
        model.train(training)
    return torch.cat(vectors), torch.cat(labels)
