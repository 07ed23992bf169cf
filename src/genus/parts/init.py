"""Initial weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from genus.parts.linear import Linear
from genus.parts.recurrent import Recurrent
from genus.spec import Spec


@dataclass(frozen=True)
class Init(Spec):
    """How matrices start; vectors keep what their part gave them (ones for norms, zeros for biases).

    Attributes:
        kind: "normal" (standard deviation `std`), "uniform" (between -std and std), or "fan_in" (normal, variance 1 / inputs).
        residual: outputs of sublayers are scaled down by sqrt(2 * layers), so that the stream keeps its variance (GPT-2).
        forget: bias of the LSTM's forget gate (Jozefowicz et al. 2015), on top of zero.
        everything: biases too are drawn, not zero (Zaremba et al. 2014).
    """

    kind: Literal["normal", "uniform", "fan_in"] = "normal"
    std: float = 0.02
    residual: bool = True
    forget: float = 0.0
    everything: bool = False

    @torch.no_grad()
    def apply(self, model: nn.Module, depth: int) -> None:
        """Draw the weights of `model` in place, from torch's current random state."""
        for name, module in model.named_modules():
            for key, p in module.named_parameters(recurse=False):
                drawn = p.dim() > 1 or (self.everything and key.startswith("bias"))
                if drawn and not getattr(p, "keep_init", False):
                    self._draw(
                        p,
                        isinstance(module, Linear) and self.residual and name.endswith(("o_proj", "down_proj")),
                        depth,
                    )
            if isinstance(module, Recurrent.Module) and module.spec.cell == "LSTM" and self.forget:
                module.bias_ih[module.hidden : 2 * module.hidden] += self.forget

    def _draw(self, p: nn.Parameter, output: bool, depth: int) -> None:
        std = p.shape[-1] ** -0.5 if self.kind == "fan_in" else self.std
        if output:
            std /= math.sqrt(2 * depth)
        if self.kind == "uniform":
            p.uniform_(-std, std)
        else:
            p.normal_(0.0, std)
