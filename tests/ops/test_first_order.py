"""No fast path answers wrongly when it is asked for a second derivative."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import genus.ops
from genus.ops.activation import gated, gelu_tanh, silu
from genus.ops.attention import attention
from genus.ops.cross_entropy import linear_cross_entropy
from genus.ops.dispatch import OPS, Op, forced
from genus.ops.document_attention import Documents, document_attention
from genus.ops.dropout import dropout
from genus.ops.fast_weights import fast_weights
from genus.ops.linear import linear
from genus.ops.norm import layer_norm, rms_norm
from genus.ops.recurrent import GATES, LARGE, recurrent
from genus.ops.rotary import rotary
from genus.ops.short_conv import short_conv

B, T, H, K, D = 2, 5, 3, 16, 16


def _cell(name: str, hidden: int) -> tuple[Any, ...]:
    shapes = ((GATES[name] * hidden, D), (GATES[name] * hidden, hidden), (GATES[name] * hidden,), (GATES[name] * hidden,))
    return name, _numbers(B, T, D), [0.1 * _numbers(*s) for s in shapes], [_numbers(B, hidden)] * (2 if name == "LSTM" else 1)


def _numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


def _heads() -> Tensor:
    return _numbers(B, H, T, K)


CASES: list[tuple[Op[..., Any], str, Callable[[], tuple[Any, ...]]]] = [
    (attention, "native", lambda: (_heads(), _heads(), _heads(), None, True)),
    (attention, "blocked", lambda: (_heads(), _heads(), _heads(), None, True)),
    *((linear_cross_entropy, p, lambda: (_numbers(T, D), _numbers(9, D), torch.arange(T))) for p in ("native", "chunked")),
    (linear, "product", lambda: (_numbers(16, D), torch.ones(8, D))),
    (silu, "native", lambda: (_numbers(B, D),)),
    *((gelu_tanh, path, lambda: (_numbers(B, D),)) for path in ("native", "sigmoid")),
    (gated, "native", lambda: ("silu", _numbers(B, D), _numbers(B, D))),
    (dropout, "native", lambda: (_numbers(B, D), 0.5)),
    (layer_norm, "native", lambda: (_numbers(B, D), torch.ones(D), None, 1e-5)),
    *((rms_norm, path, lambda: (_numbers(B, D), torch.ones(D), 1e-5)) for path in ("native", "fused")),
    *((rotary, path, lambda: (_heads(), _numbers(T, 4), _numbers(T, 4))) for path in ("native", "in place")),
    (recurrent, "unrolled", lambda: _cell("LSTM", LARGE)),
    (recurrent, "unrolled", lambda: _cell("GRU", 8)),
    *((short_conv, path, lambda: (_numbers(B, T, D), _numbers(D, 4), _numbers(B, 3, D))) for path in ("native", "convolution")),
    *(
        (fast_weights, path, lambda: (*[_heads()] * 2, _heads(), None, torch.full((B, H, T), 0.5)))
        for path in ("native chunks", "chunked")
    ),
]


@pytest.mark.parametrize(("op", "path", "make"), CASES, ids=[f"{op.name} {path}" for op, path, _ in CASES])
@pytest.mark.parametrize("constant", [False, True], ids=["", "constant"])
def test_no_second_derivative(op: Op[..., Any], path: str, make: Callable[[], tuple[Any, ...]], constant: bool) -> None:
    """Also where what comes back is a constant, as behind a sum. The definition has one."""
    arguments = make()
    leaf = next(a for a in arguments if isinstance(a, Tensor)).requires_grad_()
    if not op.paths[path][0](*arguments) and path in ("native", "native chunks", "product"):
        pytest.skip("no kernel in C here")

    def gradient(run: Callable[..., Any]) -> Tensor:
        result = run(*arguments)
        y = (result if isinstance(result, Tensor) else result[0]).float()
        (found,) = torch.autograd.grad((y if constant else y.square()).sum(), leaf, create_graph=True)
        return found

    with pytest.raises(RuntimeError, match="has no second derivatives"):
        gradient(op.paths[path][1])
    if not constant:
        with forced(**dict.fromkeys(OPS, "reference")):
            (second,) = torch.autograd.grad(gradient(op).float().square().sum(), leaf)
        assert second.isfinite().all() and second.any()


def test_every_backward_pass_says_so() -> None:
    """But that of a function which is linear, and made of what torch can differentiate."""
    for module in pkgutil.iter_modules(genus.ops.__path__):
        importlib.import_module(f"genus.ops.{module.name}")
    functions = [f for f in torch.autograd.Function.__subclasses__() if f.__module__.startswith("genus.ops.")]
    assert len(functions) > 12
    assert [f.__name__ for f in functions if not hasattr(f.backward, "__wrapped__")] == ["_Take"]


def test_documents_have_one() -> None:
    documents = Documents.find(torch.arange(10)[None] // 2)
    assert documents is not None
    found = []
    for path in ("reference", "by length"):
        q, k, v = (
            torch.randn(1, 2, 10, 4, generator=torch.Generator().manual_seed(i)).double().requires_grad_() for i in range(3)
        )
        with forced(document_attention=path, attention="reference"):
            y = document_attention(q, k, v, documents)
            grads = torch.autograd.grad(y.square().sum(), (q, k, v), create_graph=True)
            found.append(torch.autograd.grad(sum(g.square().sum() for g in grads), (q, k, v)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
