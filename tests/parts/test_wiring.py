"""How sublayers join the stream: each wiring against its published equations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genus.parts.block import Block, Stack
from genus.parts.ctx import Ctx
from genus.parts.mlp import MLP
from genus.parts.norm import LayerNorm, RMSNorm
from genus.parts.wiring import OutNorm, Parallel, Plain, PostNorm, PreNorm, ResiDual, Sandwich, Wiring

X = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
F = [lambda x: x * 0.5 + 1, lambda x: x**2, lambda x: -x]
N = [lambda x, c=c: x / (1 + c + x.abs()) for c in range(3)]
A = [lambda x, c=c: x.tanh() * c for c in range(1, 4)]

EQUATIONS: dict[Wiring, Callable[[Tensor], Tensor]] = {
    Plain(): lambda x: F[2](F[1](F[0](x))),
    PreNorm(): lambda x: _chain(x, lambda h, i: h + F[i](N[i](h))),
    PostNorm(): lambda x: _chain(x, lambda h, i: N[i](h + F[i](h))),
    OutNorm(): lambda x: _chain(x, lambda h, i: h + N[i](F[i](h))),
    Sandwich(): lambda x: _chain(x, lambda h, i: h + A[i](F[i](N[i](h)))),
    Parallel(): lambda x: x + sum(F[i](N[i](x)) for i in range(3)),
}


def _chain(h: Tensor, step: Callable[[Tensor, int], Tensor]) -> Tensor:
    for i in range(3):
        h = step(h, i)
    return h


@pytest.mark.parametrize("wiring", list(EQUATIONS), ids=lambda w: type(w).__name__)
def test_equations(wiring: Wiring) -> None:
    got = wiring.leave(wiring.run(wiring.enter(X), F, N, A), lambda h: h * 3)
    torch.testing.assert_close(got, EQUATIONS[wiring](X) * 3)


def test_residual_is_two_streams() -> None:
    """Xie et al. 2023, eq. 3: x_post' = LN(x_post + f(x_post)), x_dual' = x_dual + f(x_post); y = x_post + LN(x_dual)."""
    post, dual = X, X
    for f, norm in zip(F, N, strict=True):
        y = f(post)
        post, dual = norm(post + y), dual + y
    wiring = ResiDual()
    got = wiring.leave(wiring.run(wiring.enter(X), F, N, A), lambda h: h * 3)
    torch.testing.assert_close(got, post + dual * 3)


def test_one_norm_for_parallel_sublayers() -> None:
    """GPT-J: both sublayers read the same normalised vector."""
    for one, norms in ((True, 1), (False, 2)):
        spec = Block((MLP(16), MLP(24)), LayerNorm(), Parallel(one_norm=one))
        block = spec.build(8)
        _draw(block)
        assert len(block.norms) == norms and len(block.after) == 0
        assert spec.parameters(8) == sum(p.numel() for p in block.parameters())
        first, last = block.norms[0], block.norms[-1]
        torch.testing.assert_close(block(X, _CTX), X + block.parts[0](first(X), _CTX) + block.parts[1](last(X), _CTX))


_CTX = Ctx(torch.arange(3))


def _draw(module: torch.nn.Module) -> None:
    for p in module.parameters():
        torch.nn.init.normal_(p, 0.0, 0.5)


@pytest.mark.parametrize("wiring", [*EQUATIONS, ResiDual()], ids=lambda w: type(w).__name__)
def test_every_wiring_in_a_stack(wiring: Wiring) -> None:
    """Counts, shapes, and that each norm a wiring asks for is used."""
    spec = Stack((Block((MLP(16), MLP(24)), None if isinstance(wiring, Plain) else RMSNorm(), wiring),), 2, RMSNorm())
    stack = spec.build(8)
    _draw(stack)
    assert spec.parameters(8) == sum(p.numel() for p in stack.parameters())
    y = stack(X, _CTX)
    assert y.shape == X.shape
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in stack.parameters())


def test_an_abstract_wiring_joins_nothing() -> None:
    with pytest.raises(NotImplementedError):
        Wiring().join(X, F[0], N[0], A[0])
