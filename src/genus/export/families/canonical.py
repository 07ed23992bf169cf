"""The spec of a model as far as it decides what is computed."""

from __future__ import annotations

from typing import Any

from genus.parts.attention import Attention
from genus.parts.block import Block, Stack
from genus.parts.embedding import Embedding
from genus.parts.init import Init
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.task_head import Pool, TaskHead, Vectors
from genus.spec import Spec, rewrite


def canonical(spec: Any) -> Any:
    """Defaults resolved, training-only fields (dropout, init) dropped: equal for models that compute the same."""
    if not isinstance(spec, Model):
        return spec
    dim = spec.dim

    def change(part: Spec) -> Spec:
        match part:
            case Attention():
                return _attention(part, dim)
            case MLP():
                return part.replace(hidden=part.inner(dim))
            case Block():
                return part.replace(dropout=0.0)
            case Embedding():
                return part.replace(dropout=0.0)
            case TaskHead():
                return part.replace(dropout=0.0, before=0.0)
            case Pool(dense=False):
                return part.replace(act=Pool.act)
            case Vectors():  # modules.json says it, not config.json
                return part.replace(take=None, unit=False, longest=None)
            case Stack():
                return _stack(part)
            case Model():
                return part.replace(init=Init())
        return part

    return rewrite(spec, change)


def _attention(a: Attention, dim: int) -> Attention:
    head = a.head_dim or dim // a.heads
    score = a.score
    if score.scale == head**-0.5:
        score = score.replace(scale=None)
    return a.replace(
        kv_heads=a.kv_heads or a.heads,
        head_dim=head,
        out_bias=a.bias if a.out_bias is None else a.out_bias,
        score=score,
        dropout=0.0,
    )


def _stack(stack: Stack) -> Stack:
    """The shortest pattern that gives the same layers; where layers share weights the pattern says which do."""
    if stack.share:
        return stack
    layers = [stack.blocks[i % len(stack.blocks)] for i in range(stack.depth)]
    for n in range(1, len(stack.blocks) + 1):
        if all(layer == layers[i % n] for i, layer in enumerate(layers)):
            return stack.replace(blocks=tuple(layers[:n]))
    return stack
