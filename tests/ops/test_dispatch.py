"""The one place where an operation chooses how to run."""

from __future__ import annotations

from threading import Thread

import pytest
import torch

from genus.ops.attention import attention
from genus.ops.dispatch import OPS, Call, Op, _watchers, forced, watched
from genus.ops.document_attention import Documents, document_attention


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
    message = "op attention has no path 'flash'; it has: reference, native, blocked, sdpa"
    with pytest.raises(ValueError, match=message), forced(attention="flash"):
        pass


def test_every_op_says_what_it_computes() -> None:
    for op in OPS.values():
        assert op.__doc__, op.name


def test_watching_sees_the_calls_of_this_thread() -> None:
    q, k, v = (torch.randn(1, 2, 5, 4) for _ in range(3))
    calls: list[Call] = []
    with watched(calls.append):
        y = attention(q, k, v, causal=True, scale=0.5)
        other = Thread(target=attention, args=(q, k, v))
        other.start()
        other.join()
    attention(q, k, v)
    assert [call.op.name for call in calls] == ["attention"]
    assert set(calls[0].arguments) == {"q", "k", "v", "causal", "scale"} and calls[0].result is y
    weights = calls[0].weights()
    torch.testing.assert_close(weights @ v, y)
    assert torch.equal(weights, weights.tril())
    assert not _watchers


def test_of_nested_ops_the_outer_is_seen() -> None:
    q, k, v = (torch.randn(2, 2, 6, 4) for _ in range(3))
    documents = Documents.find(torch.tensor([[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]))
    assert documents is not None
    calls: list[Call] = []
    with watched(calls.append):
        document_attention(q, k, v, documents)
        attention(q, k, v)
    assert [call.op.name for call in calls] == ["document_attention", "attention"]
    torch.testing.assert_close(calls[0].weights(), torch.eye(6).expand(2, 2, 6, 6))


def test_watching_ends_with_an_error_too() -> None:
    q = torch.randn(1, 1, 5, 4)
    with pytest.raises(RuntimeError), watched(lambda call: None):
        attention(q, torch.randn(1, 1, 5, 3), q)
    assert not _watchers
