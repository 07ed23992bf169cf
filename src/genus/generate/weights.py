"""Weights made ready for decoding: a copy of a model whose matrices are stored in fewer bits.

A step of decoding reads every weight for a handful of tokens, so its speed is that of memory: half the bits, twice the speed.
Which matrices these are is read off the module tree, so it is the same for every recipe.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from genus.ops.linear import linear
from genus.ops.memory import Arena
from genus.ops.packed import Packed, pack
from genus.parts.conditional import Conditional
from genus.parts.head import Head
from genus.parts.linear import Linear
from genus.parts.recurrent import Recurrent

WEIGHTS = ("fp32", "bf16", "int8", "int4")
SMALLEST = 16  # outputs or inputs below which a matrix stays in bf16: routers and gates are small, and much hangs on them
GATES = ("weight_ih", "weight_hh", "weight_hr")


class Table(nn.Module):
    """The token table of a model whose read-out is the same matrix, stored once."""

    def __init__(self, weight: Packed) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, ids: Tensor) -> Tensor:
        """(...) ids to (..., dim) vectors."""
        return self.weight.rows(ids, torch.float32)


@torch.no_grad()
def ready(model: Any, weights: str, group: int = 32) -> Any:
    """A copy of a model whose matrices are stored for decoding; the model itself where that changes nothing.

    The matrices of all linear layers, of recurrences and of the read-out are stored so. The read-out of an int4 model has int8:
    it is where rounding hurts most. Tables become bf16, one that is tied to the read-out stays the same matrix; vectors, and
    tables of positions and biases, stay as they are. The copy is for reading: it cannot be trained, saved or moved to a device.

    Args:
        weights: "fp32" (as it is), "bf16", "int8" (a scale for each output) or "int4" (a scale for each `group` of inputs).
        group: 32, 64 or 128.

    Raises:
        ValueError: there is no such format or group.
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights {weights!r} must be one of {', '.join(WEIGHTS)}")
    stored: dict[int, Any] = {}
    arena = Arena()
    if weights != "fp32":
        for parameter, uses in _matrices(model):
            new = _store(parameter, uses, weights, group)
            if isinstance(new, Packed):
                stored[id(parameter)] = replace(new, codes=arena.copy(new.codes))
            else:
                stored[id(parameter)] = nn.Parameter(new, requires_grad=False)
    if not stored:
        return model
    result = copy.deepcopy(model, stored)
    for module in list(result.modules()):
        for name in [n for n, p in module._parameters.items() if isinstance(p, Packed)]:
            setattr(module, name, module._parameters.pop(name))
        for name, child in module._modules.items():
            if isinstance(child, nn.Embedding) and isinstance(child.weight, Packed):
                module._modules[name] = Table(child.weight)
    return result


def _store(parameter: nn.Parameter, uses: set[str], weights: str, group: int) -> Tensor | Packed:
    if "product" not in uses or min(parameter.shape) < SMALLEST:
        return parameter.detach().to(torch.bfloat16)
    return pack(parameter.detach(), "int8" if weights == "int4" and "read-out" in uses else weights, group)


def _matrices(model: Any) -> Iterator[tuple[nn.Parameter, set[str]]]:
    """Every matrix that is stored in another way, with all its uses: "product", "read-out", "table", "slices"."""
    found: dict[int, tuple[nn.Parameter, set[str]]] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.dim() == 2:
                found.setdefault(id(parameter), (parameter, set()))[1].update(_uses(module, name))
    return ((p, uses) for p, uses in found.values() if "other" not in uses)


def _uses(module: nn.Module, name: str) -> set[str]:
    match module:
        case Linear() if type(module) is Linear:
            return {"product"}
        case Head.Module():
            return {"product", "read-out"}
        case Recurrent.Module() if name in GATES:
            return {"slices"} if module.spec.cell == "Cho" and name == "weight_hh" else {"product"}
        case Conditional.Module():
            return {"slices"}
        case nn.Embedding():
            return {"table"}
    return {"other"}


@dataclass(frozen=True)
class Path:
    """How matrices of one kind are stored and multiplied.

    Attributes:
        name: of the parameter, without numbers. shape: (outputs, inputs). stored: "fp32", "bf16", "int8" or "int4".
        path: of the op `linear`; "lookup" for a table, "" for what is used otherwise. count: of such matrices.
        bytes: of all of them together.
    """

    name: str
    shape: tuple[int, ...]
    stored: str
    path: str
    count: int
    bytes: int

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        return f"{self.count:>4} {self.name:<36} {size:<14} {self.stored:<5} {self.path:<10} {self.bytes / 1e6:8.2f} MB"


def describe_paths(model: Any, dtype: torch.dtype = torch.bfloat16, rows: int = 1) -> list[Path]:
    """How each kind of matrix is stored, and which path of the op `linear` takes it with `rows` rows of activations.

    A table that is also the read-out stands there once, as the read-out. Where "native" is not among the paths,
    `ops.native.reason("linear")` says why.
    """
    groups: dict[tuple[str, tuple[int, ...], str, str], list[int]] = {}
    seen: set[int] = set()
    modules = sorted(model.named_modules(), key=lambda named: isinstance(named[1], nn.Embedding | Table))  # these come last
    for place, module in modules:
        for name, weight in [*module._parameters.items(), *vars(module).items()]:
            if id(weight) in seen or not isinstance(weight, Packed | nn.Parameter) or len(weight.shape) != 2:
                continue
            seen.add(id(weight))
            kind = re.sub(r"\.\d+(?=\.|$)", "", f"{place}.{name}".strip("."))
            key = (kind, tuple(weight.shape), _stored(weight), _path(module, name, weight, dtype, rows))
            groups.setdefault(key, []).append(weight.bytes if isinstance(weight, Packed) else weight.nbytes)
    return [Path(*key, len(sizes), sum(sizes)) for key, sizes in groups.items()]


def _stored(weight: nn.Parameter | Packed) -> str:
    names = {torch.float32: "fp32", torch.bfloat16: "bf16"}
    return weight.format if isinstance(weight, Packed) else names.get(weight.dtype, str(weight.dtype))


def _path(module: nn.Module, name: str, weight: nn.Parameter | Packed, dtype: torch.dtype, rows: int) -> str:
    if isinstance(module, nn.Embedding | Table):
        return "lookup"
    if "product" not in _uses(module, name):
        return ""
    x = torch.empty(rows, weight.shape[1], dtype=dtype, device=weight.device)
    with torch.no_grad():
        return linear.chosen(x, weight, None)
