"""Backward passes that have no derivative of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch

R = TypeVar("R")


def first_order(backward: Callable[..., R]) -> Callable[..., R]:
    """The backward pass of an autograd function that is a kernel, or uses what the forward pass has kept as if it were constant.

    torch's `once_differentiable` refuses only where what comes back depends on the input. Where it does not, as behind a loss at
    the end of the computation, terms that are made of the gradient would be left out without a word.

    Raises:
        RuntimeError: second derivatives were asked for.
    """

    @wraps(backward)
    def once(ctx: Any, *grads: Any) -> R:
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # a compiler refuses by itself
            raise RuntimeError(
                f"the fast path in {backward.__module__} has no second derivatives (create_graph=True); run the forward pass "
                'within `with genus.ops.dispatch.forced(OP="reference"):`, whose definition has them'
            )
        return backward(ctx, *grads)

    return once
