"""Name maps between a checkpoint and our modules, as data: one list of rules per family, used in both directions.

A rule names a tensor of the checkpoint and the tensor or tensors of ours that it holds. `{}` stands for an index that is
the same on both sides (a layer, an expert); `*` on our side stands for all experts, in order, in one tensor of theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genus.parts.attention import Attention
from genus.parts.model import Model
from genus.spec import walk


@dataclass(frozen=True)
class Layout:
    """How tensors of ours lie in one of theirs. `heads`: the number of attention heads."""

    split: Callable[[Tensor, int], Sequence[Tensor]]
    join: Callable[[Sequence[Tensor], int], Tensor]


def _interleave(parts: Sequence[Tensor], heads: int) -> Tensor:
    rows = [p.reshape(heads, 1, -1, *p.shape[1:]) for p in parts]
    return torch.cat(rows, dim=1).flatten(0, 2)


def _deinterleave(t: Tensor, heads: int) -> list[Tensor]:
    return [p.flatten(0, 1) for p in t.reshape(heads, 3, -1, *t.shape[1:]).unbind(1)]


LAYOUTS = {
    "same": Layout(lambda t, _: [t], lambda parts, _: parts[0]),
    # Conv1D of GPT-1 and GPT-2 stores (inputs, outputs)
    "transposed": Layout(lambda t, _: [t.mT], lambda parts, _: parts[0].mT),
    "stacked": Layout(lambda t, _: t.chunk(3), lambda parts, _: torch.cat(list(parts))),
    "stacked_transposed": Layout(lambda t, _: t.mT.chunk(3), lambda parts, _: torch.cat(list(parts)).mT),
    # head after head, each with its rows of q, of k, of v
    "by_head": Layout(_deinterleave, _interleave),
    # (experts, 2 x inner, dim): the gate's rows above the other branch's
    "gate_up_experts": Layout(
        lambda t, _: [half for expert in t.unbind() for half in expert.chunk(2)],
        lambda parts, _: torch.stack([torch.cat(list(p)) for p in zip(parts[::2], parts[1::2], strict=True)]),
    ),
    "experts": Layout(lambda t, _: t.unbind(), lambda parts, _: torch.stack(list(parts))),
}


@dataclass(frozen=True)
class Rule:
    """`theirs` holds `ours` in the given layout. `read_only`: an older or doubled name, accepted but never written."""

    theirs: str
    ours: tuple[str, ...]
    layout: str = "same"
    read_only: bool = False


def same(theirs: str, ours: str, read_only: bool = False) -> Rule:
    """One tensor under two names."""
    return Rule(theirs, (ours,), read_only=read_only)


def pair(theirs: str, ours: str, layout: str = "same") -> list[Rule]:
    """Weight and bias of a layer; a bias that we do not have asks for nothing. `layout` is the weight's."""
    return [Rule(f"{theirs}.weight", (f"{ours}.weight",), layout), same(f"{theirs}.bias", f"{ours}.bias")]


def qkv(theirs: str, ours: str, weight: str, bias: str) -> list[Rule]:
    """Queries, keys and values in one layer of theirs."""
    return [
        Rule(f"{theirs}.{kind}", tuple(f"{ours}.{x}_proj.{kind}" for x in "qkv"), layout)
        for kind, layout in (("weight", weight), ("bias", bias))
    ]


@dataclass(frozen=True)
class Bound:
    """A rule at given indices."""

    theirs: str
    ours: tuple[str, ...]
    layout: str
    read_only: bool

    def split(self, tensor: Tensor, heads: int) -> Sequence[Tensor]:
        """Our tensors, in the order of `ours`."""
        return LAYOUTS[self.layout].split(tensor, heads)

    def join(self, parts: Sequence[Tensor], heads: int) -> Tensor:
        """Their tensor."""
        return LAYOUTS[self.layout].join(parts, heads)


def bind(rules: Iterable[Rule], names: Iterable[str]) -> list[Bound]:
    """Every rule at every index that our tensors have; a rule none of whose tensors we have disappears."""
    names = list(names)
    bound = []
    for rule in rules:
        first = re.escape(rule.ours[0]).replace(r"\{\}", r"(\d+)").replace(r"\*", "0")
        for name in names:
            match = re.fullmatch(first, name)
            if match:
                ours = _all_experts([_fill(o, match.groups()) for o in rule.ours], names)
                bound.append(Bound(_fill(rule.theirs, match.groups()), ours, rule.layout, rule.read_only))
    return bound


def heads_of(spec: Model) -> int:
    """Number of attention heads, for the layouts that need it; 1 where there is no attention."""
    return next((p.heads for p in walk(spec) if isinstance(p, Attention)), 1)


def _fill(template: str, indices: Sequence[str]) -> str:
    for index in indices:
        template = template.replace("{}", index, 1)
    return template


def _all_experts(templates: list[str], names: list[str]) -> tuple[str, ...]:
    if "*" not in templates[0]:
        return tuple(templates)
    pattern = re.escape(templates[0]).replace(r"\*", r"\d+")
    count = sum(1 for name in names if re.fullmatch(pattern, name))
    return tuple(t.replace("*", str(e)) for e in range(count) for t in templates)
