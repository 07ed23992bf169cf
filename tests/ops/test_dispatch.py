"""The one place where an operation chooses how to run."""

from __future__ import annotations

import pytest
import torch

from genus.ops.attention import attention
from genus.ops.dispatch import OPS, Op, forced


def test_first_path_that_applies() -> None:
    def double(x: int) -> str:
        """Twice."""
        return "reference"

    op = Op(double)
    try:
        assert op(3) == "reference" and op.__doc__ == "Twice."
        op.path("small", when=lambda x: x < 10)(lambda x: "small")
        op.path("even", when=lambda x: x % 2 == 0)(lambda x: "even")
        assert [op(x) for x in (4, 12, 13)] == ["small", "even", "reference"]
        assert [op.chosen(x) for x in (4, 12, 13)] == ["small", "even", "reference"]
        with forced(double="even"):
            assert op(13) == "even"
            with forced(double="reference"):
                assert op(4) == "reference"
            assert op(13) == "even"
        assert op(13) == "reference"
        assert op.reference(4) == "reference"
    finally:
        del OPS["double"]


def test_forced_ends_with_an_error_too() -> None:
    with pytest.raises(RuntimeError, match="inside"), forced(attention="reference"):
        raise RuntimeError("inside")
    q = torch.randn(1, 1, 100, 4)
    assert attention.chosen(q, q, q) == "blocked"


def test_forcing_what_is_not_there() -> None:
    message = "op attention has no path 'flash'; it has: reference, blocked, sdpa"
    with pytest.raises(ValueError, match=message), forced(attention="flash"):
        pass


def test_every_op_says_what_it_computes() -> None:
    for op in OPS.values():
        assert op.__doc__, op.name
