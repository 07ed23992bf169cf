"""One new position per row, each with keys of its own."""

from __future__ import annotations

import pytest
import torch

from genus.ops import decode_attention as module
from genus.ops.attention import attention
from genus.ops.decode_attention import Spans, decode_attention, kernel
from genus.ops.dispatch import forced

SPANS = [[(0, 3)], [(2, 9)], [(8, 9)], [(0, 9)]]
CLOSE = {torch.float32: {"atol": 1e-5, "rtol": 1e-4}, torch.bfloat16: {"atol": 2e-2, "rtol": 2e-2}}


def _inputs(groups: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(4, 6, 1, 8, generator=generator)
    k, v = (torch.randn(4, groups, 9, 8, generator=generator) for _ in range(2))
    return q, k, v


@pytest.mark.parametrize("groups", [6, 2])
@pytest.mark.parametrize("bias_rows", [None, 1, 4])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("path", ["reference", "by row", "native"])
def test_a_row_sees_its_own_keys(groups: int, bias_rows: int | None, softcap: float | None, path: str) -> None:
    if path == "native" and kernel() is None:
        pytest.skip("no kernel in C here")
    q, k, v = _inputs(groups)
    bias = None if bias_rows is None else torch.randn(bias_rows, 6, 1, 9)
    with forced(decode_attention=path):
        y = decode_attention(q, k, v, Spans(SPANS, 9, q.device), bias, 0.3, softcap)
    for row, ((a, b),) in enumerate(SPANS):
        own = None if bias is None else bias[row % len(bias)][None, ..., a:b]
        one = slice(row, row + 1)
        alone = attention.reference(q[one], k[one, :, a:b], v[one, :, a:b], own, False, 0.3, softcap)
        torch.testing.assert_close(y[one], alone)


@pytest.mark.skipif(kernel() is None, reason="no kernel in C here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "groups", "head"), [(4, 4, 16), (6, 2, 8), (8, 1, 64), (3, 3, 40), (2, 2, 256), (4, 2, 144)])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_the_kernel_is_the_definition(dtype: torch.dtype, heads: int, groups: int, head: int, softcap: float | None) -> None:
    """Several new positions, spans of every kind, keys in a larger tensor, with and without a bias."""
    generator = torch.Generator().manual_seed(head)
    time, keys = 3, 300
    q = torch.randn(4, time, heads, head, generator=generator).to(dtype).transpose(1, 2)
    k, v = (torch.randn(5, groups, 400, head, generator=generator).to(dtype)[:4, :, 50:350] for _ in range(2))
    k[2, :, 100:] = v[2, :, 100:] = float("nan")  # nobody looks there
    pairs = [[(0, 298), (0, 299), (0, 300)], [(128, 129), (128, 130), (128, 131)], [(3, 20), (4, 21), (4, 21)], [(0, 1)] * 3]
    spans = Spans(pairs, keys, q.device)
    for bias in (None, torch.randn(1, heads, time, keys), torch.randn(4, 1, time, keys)):
        assert decode_attention.chosen(q, k, v, spans, bias, 0.5, softcap) == "native"
        y = decode_attention(q, k, v, spans, bias, 0.5, softcap)
        assert y.dtype == dtype
        for row in range(4):
            for t, (a, b) in enumerate(pairs[row]):
                at = slice(row, row + 1), slice(None), slice(t, t + 1)
                own = None if bias is None else bias.expand(4, heads, time, keys)[at][..., a:b]
                parts = (x[at[0], :, a:b].float() for x in (k, v))
                alone = attention.reference(q[at].float(), *parts, own, False, 0.5, softcap)
                torch.testing.assert_close(y[at].float(), alone, **CLOSE[dtype])


@pytest.mark.parametrize("path", ["reference", "native"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("time", [1, 3])
def test_keys_in_a_ring(path: str, dtype: torch.dtype, time: int) -> None:
    """Spans that go round are those of keys in their order, also where a block of the kernel holds the end of the ring."""
    if path == "native" and kernel() is None:
        pytest.skip("no kernel in C here")
    generator = torch.Generator().manual_seed(0)
    keys, firsts = 320, (0, 310, 319, 100, 192, 64)
    q = torch.randn(6, time, 6, 24, generator=generator).to(dtype).transpose(1, 2)
    k, v = (torch.randn(6, 2, keys, 24, generator=generator).to(dtype) for _ in range(2))
    pairs = [[((first + t) % keys, (first + t) % keys + 300) for t in range(time)] for first in firsts]
    spans = Spans(pairs, keys, q.device)
    assert spans.round and not spans.plain and decode_attention.chosen(q, k, v, spans, torch.zeros(1, 1, 1, keys)) == "reference"
    with forced(decode_attention=path):
        y = decode_attention(q, k, v, spans, None, 0.4, 3.0)
    for row, own in enumerate(pairs):
        for t, (start, stop) in enumerate(own):
            order = torch.arange(start, stop) % keys
            at = slice(row, row + 1), slice(None), slice(t, t + 1)
            alone = attention.reference(
                q[at].float(), *(x[row : row + 1, :, order].float() for x in (k, v)), None, False, 0.4, 3.0
            )
            torch.testing.assert_close(y[at].float(), alone, **CLOSE[dtype])


@pytest.mark.skipif(kernel() is None, reason="no kernel in C here")
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_what_is_not_a_number_stays_so(softcap: float | None) -> None:
    q, k, v = _inputs(6)
    q[1] = float("nan")
    y = decode_attention(q, k, v, Spans(SPANS, 9, q.device), None, 0.3, softcap)
    assert y[1].isnan().all() and not y[[0, 2, 3]].isnan().any()


@pytest.mark.skipif(kernel() is None, reason="no kernel in C here")
def test_a_row_of_the_kernel_is_the_same_bit_for_bit_in_any_company() -> None:
    q, k, v = _inputs(6)
    together = decode_attention(q, k, v, Spans(SPANS, 9, q.device))
    for row, pair in enumerate(SPANS):
        one = slice(row, row + 1)
        assert torch.equal(decode_attention(q[one], k[one], v[one], Spans([pair], 9, q.device)), together[one])


def test_rows_far_apart_do_not_pay_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "kernel", lambda: None)
    q, k, v = _inputs(6)
    assert decode_attention.chosen(q, k, v, Spans(SPANS, 9, q.device)) == "reference"
    wide = k.repeat(1, 1, 200, 8), v.repeat(1, 1, 200, 8)
    assert decode_attention.chosen(q, *wide, Spans([[(0, 1800)], [(0, 9)], [(0, 9)], [(0, 9)]], 1800, q.device)) == "by row"
    assert (
        decode_attention.chosen(q, *wide, Spans([[(0, 1800)], [(9, 1800)], [(0, 1790)], [(0, 1800)]], 1800, q.device))
        == "reference"
    )
