"""Every path of scaled dot-product attention against the readable one, with gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from genus.ops import blocked_attention as module
from genus.ops.attention import LONG, attention
from genus.ops.dropout import dropout as drop
from genus.ops.native import library

needs_kernel = pytest.mark.skipif(library("attention") is None, reason="no kernel in C here")
CLOSE = {torch.float32: {"atol": 2e-5, "rtol": 1e-4}, torch.bfloat16: {"atol": 4e-2, "rtol": 4e-2}}


def _inputs(
    time: int, keys: int, heads: int = 4, groups: int = 4, head: int = 8, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """q, k, v as the layer makes them: a transposed view, not contiguous."""
    shapes = ((time, heads), (keys, groups), (keys, groups))
    return [torch.randn(2, t, h, head).to(dtype).transpose(1, 2).requires_grad_() for t, h in shapes]


def _run(path: Any, qkv: list[Tensor], *args: Any, extra: Tensor | None = None, **named: Tensor) -> list[Tensor]:
    leaves = [*qkv, *([extra] if extra is not None else []), *(x for x in named.values() if x.requires_grad)]
    y = path(*qkv, *args, **named)
    torch.manual_seed(1)
    return [y, *torch.autograd.grad((y.float() * torch.randn(y.shape)).sum(), leaves)]


def _same(qkv: list[Tensor], *args: Any, extra: Tensor | None = None, **named: Tensor) -> None:
    expected = _run(attention.reference, qkv, *args, extra=extra, **named)
    assert set(attention.paths) == {"native", "blocked", "sdpa"}
    for name, (fits, path) in attention.paths.items():
        if name != "sdpa" and not fits(*qkv, *args, **named):
            continue
        for a, b in zip(_run(path, qkv, *args, extra=extra, **named), expected, strict=True):
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, **CLOSE[qkv[0].dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("time", "head", "groups"), [(1, 8, 4), (2, 3, 1), (17, 8, 2), (65, 16, 4), (130, 5, 1)])
def test_causal(time: int, head: int, groups: int, dtype: torch.dtype) -> None:
    _same(_inputs(time, time, groups=groups, head=head, dtype=dtype), None, time > 1, 0.3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("time", "keys"), [(1, 9), (5, 70), (33, 33)])
def test_boolean_mask(time: int, keys: int, dtype: torch.dtype) -> None:
    mask = torch.rand(2, 1, time, keys) > 0.5
    mask[..., 0] = True
    _same(_inputs(time, keys, groups=2, dtype=dtype), mask, False, 0.3)


@pytest.mark.parametrize("time", [7, 70])
def test_additive_mask_with_its_own_gradient(time: int) -> None:
    """T5's relative bias is trained through the mask."""
    bias = torch.randn(1, 4, time, time, requires_grad=True)
    _same(_inputs(time, time), bias, False, 1.0, extra=bias)


def test_additive_mask_in_bfloat16() -> None:
    """A float32 bias over bfloat16 queries, as in a T5 or BLOOM that computes in bfloat16."""
    bias = torch.randn(1, 4, 70, 70).masked_fill(torch.ones(70, 70).triu(1).bool(), torch.finfo(torch.float32).min)
    _same(_inputs(70, 70, dtype=torch.bfloat16), bias, False, 0.3)


def test_no_mask_no_order() -> None:
    _same(_inputs(9, 21), None, False, 0.5)


def test_reference_is_the_formula() -> None:
    q, k, v = (t.detach() for t in _inputs(6, 6, groups=2))
    y = attention.reference(q, k, v, None, True, 0.25, 5.0)
    for b in range(2):
        for h in range(4):
            for t in range(6):
                scores = torch.stack([5.0 * torch.tanh(q[b, h, t] @ k[b, h // 2, s] * 0.25 / 5.0) for s in range(t + 1)])
                torch.testing.assert_close(y[b, h, t], scores.softmax(0) @ v[b, h // 2, : t + 1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", [4, 1])
def test_order_beside_a_mask(groups: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents in a row: the mask need not say again that nobody looks ahead. Several blocks of queries."""
    monkeypatch.setattr(module, "BLOCK", 16)
    doc = torch.tensor([[0] * 20 + [1] * 30, [0] * 50])
    _same(_inputs(50, 50, groups=groups, dtype=dtype), (doc[:, :, None] == doc[:, None, :])[:, None], True, 0.3)


@pytest.mark.parametrize("mask", [None, torch.ones(1, 1, 1, 37, dtype=torch.bool)], ids=["none", "one row"])
@pytest.mark.parametrize("causal", [True, False])
def test_blocks_of_queries(causal: bool, mask: Tensor | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 8)
    _same(_inputs(37, 37, groups=2), mask, causal, 0.3)


@needs_kernel
@pytest.mark.parametrize(
    ("time", "keys", "head", "causal"),
    [(2, 2, 16, True), (63, 63, 32, True), (64, 64, 80, True), (150, 150, 64, True), (33, 130, 48, False), (70, 3, 128, False)],
)
@pytest.mark.parametrize("seen", [None, "all", "each"])
def test_kernel(time: int, keys: int, head: int, causal: bool, seen: str | None) -> None:
    """Against the definition in float32: as near as bfloat16 allows, and not farther away than the other path."""
    qkv = _inputs(time, keys, head=head, dtype=torch.bfloat16)
    mask = None if seen is None else torch.rand(1 if seen == "all" else 2, 1, 1, keys) > 0.4
    if mask is not None:
        mask[..., 0] = True
    args = mask, causal, head**-0.5
    exact = _run(attention.reference, [t.detach().float().requires_grad_() for t in qkv], *args)
    assert attention.chosen(*qkv, *args) == "native"
    for a, b, c in zip(_run(attention, qkv, *args), _run(attention.paths["blocked"][1], qkv, *args), exact, strict=True):
        near, other = ((t.float() - c).norm() for t in (a, b))
        assert near < 0.01 * c.norm() + 1e-2 and near < 1.5 * other + 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [1, 5, 16, 36, 80])
@pytest.mark.parametrize("documents", [False, True])
def test_window(window: int, documents: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, and beside a mask; several blocks of queries."""
    monkeypatch.setattr(module, "BLOCK", 16)
    doc = torch.tensor([[0] * 20 + [1] * 30, [0] * 50])
    mask = (doc[:, :, None] == doc[:, None, :])[:, None] if documents else None
    qkv = _inputs(50, 50, groups=2, dtype=dtype)
    _same(qkv, mask, True, 0.3, None, 0.0, window)
    place = torch.arange(50)
    back = place[:, None] - place
    near = (back >= 0) & (back < window)
    expected = attention.reference(*qkv, near if mask is None else mask & near, False, 0.3)
    assert torch.equal(attention.reference(*qkv, mask, True, 0.3, None, 0.0, window), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("time", "keys", "causal", "window"), [(50, 50, False, None), (50, 50, True, None), (40, 40, True, 7), (20, 45, False, None)]
)
@pytest.mark.parametrize("documents", [False, True])
def test_bias_by_distance(
    time: int, keys: int, causal: bool, window: int | None, documents: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    mask = torch.rand(2, 1, time, keys) > 0.3 if documents else None
    if mask is not None:
        mask |= torch.eye(time, keys, dtype=torch.bool)
    qkv, bias = _inputs(time, keys, groups=2, dtype=dtype), torch.randn(4, time + keys - 1).requires_grad_()
    args = mask, causal, 0.3, None, 0.0, window
    _same(qkv, *args, bias=bias)
    i, j = torch.arange(time)[:, None], torch.arange(keys)
    spread = bias[:, i - j + keys - 1][None]
    near = (i >= j) & (i - j < (window or time)) if causal else torch.ones(time, keys, dtype=torch.bool)
    added = spread.masked_fill(~(near if mask is None else near & mask), float("-inf"))
    assert torch.equal(attention.reference(*qkv, *args, bias), attention.reference(*qkv, added, False, 0.3))


@needs_kernel
@pytest.mark.parametrize(
    ("time", "keys", "causal", "window"),
    [
        (2, 2, True, None),
        (64, 64, True, None),
        (65, 65, False, None),
        (150, 150, True, None),
        (200, 200, True, 70),
        (33, 130, False, None),
        (70, 1, False, None),
        (70, 5, False, None),
        (129, 79, False, None),
    ],
)
def test_kernel_with_a_bias(time: int, keys: int, causal: bool, window: int | None) -> None:
    qkv = _inputs(time, keys, groups=2, head=32, dtype=torch.bfloat16)
    bias = (2 * torch.randn(4, time + keys - 1)).requires_grad_()
    args = None, causal, 0.2, None, 0.0, window
    exact = _run(attention.reference, [t.detach().float().requires_grad_() for t in qkv], *args, bias=bias)
    assert attention.chosen(*qkv, *args, bias) == "native"
    for a, c in zip(_run(attention, qkv, *args, bias=bias), exact, strict=True):
        assert (a.float() - c).norm() < 0.01 * c.norm() + 1e-2
    fixed = _run(attention, qkv, *args, bias=bias.detach())
    assert all(torch.equal(a, b) for a, b in zip(fixed, _run(attention, qkv, *args, bias=bias), strict=False))


@needs_kernel
@pytest.mark.parametrize(("time", "causal", "window"), [(2, True, None), (70, False, None), (150, True, None), (200, True, 30)])
def test_kernel_with_a_cap(time: int, causal: bool, window: int | None) -> None:
    qkv = [(3 * t.detach()).requires_grad_() for t in _inputs(time, time, groups=2, head=32, dtype=torch.bfloat16)]
    args = None, causal, 0.2, 5.0, 0.0, window
    exact = _run(attention.reference, [t.detach().float().requires_grad_() for t in qkv], *args)
    plain = _run(attention.reference, [t.detach().float().requires_grad_() for t in qkv], None, causal, 0.2, None, 0.0, window)
    assert attention.chosen(*qkv, *args) == "native"
    for a, c, other in zip(_run(attention, qkv, *args), exact, plain, strict=True):
        assert (a.float() - c).norm() < 0.015 * c.norm() + 1e-2
        assert time == 2 or (a.float() - other).norm() > 0.1 * other.norm()


@needs_kernel
@pytest.mark.parametrize(("time", "window"), [(2, 1), (64, 64), (65, 1), (150, 17), (200, 63), (200, 64), (200, 65), (330, 128)])
@pytest.mark.parametrize("seen", [None, "each"])
def test_kernel_with_a_window(time: int, window: int, seen: str | None) -> None:
    qkv = _inputs(time, time, groups=2, head=32, dtype=torch.bfloat16)
    mask = None if seen is None else (torch.arange(time) % torch.tensor([[7], [5]]) != 3)[:, None, None]
    if mask is not None and window == 1:
        mask = torch.ones_like(mask)  # or queries would see nothing
    args = mask, True, 0.2, None, 0.0, window
    exact = _run(attention.reference, [t.detach().float().requires_grad_() for t in qkv], *args)
    assert attention.chosen(*qkv, *args) == "native"
    for a, c in zip(_run(attention, qkv, *args), exact, strict=True):
        assert (a.float() - c).norm() < 0.01 * c.norm() + 1e-2


@needs_kernel
def test_kernel_strides() -> None:
    """Parts of one projection, an expanded gradient, numbers of a row that lie apart; the gradients keep their places."""
    whole = torch.randn(2, 40, 3, 4, 32).bfloat16().requires_grad_()
    q, k, v = whole.transpose(1, 3).unbind(2)
    apart = torch.randn(2, 4, 32, 40).bfloat16().requires_grad_()
    for inputs, leaf in (((q, k, v), whole), ((apart.mT, k.detach(), v.detach()), apart)):
        grads = [
            torch.autograd.grad(path(*inputs, None, True, 0.2).sum(), leaf)[0].float()
            for path in (attention, attention.reference)
        ]
        assert (grads[0] - grads[1]).norm() < 0.02 * grads[1].norm()


@needs_kernel
def test_kernel_with_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit the same: a head is worked on by one thread."""
    qkv = _inputs(100, 100, head=16, dtype=torch.bfloat16)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        found.append(_run(attention, qkv, None, True, 0.3))
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@needs_kernel
def test_kernel_tells_what_is_not_a_number() -> None:
    qkv = [t.detach() for t in _inputs(20, 20, head=16, dtype=torch.bfloat16)]
    qkv[1][0, 0, 5, 3] = float("nan")
    y = attention(*qkv, None, True, 0.3)
    assert y[0, 0, :5].isfinite().all() and y[0, 0, 5:].isnan().all() and y[1].isfinite().all()


def test_which_path() -> None:
    q, long, one = torch.randn(1, 2, LONG, 4), torch.randn(1, 2, LONG + 1, 4), torch.randn(1, 2, 1, 4)
    assert attention.chosen(q, q, q, None, True) == "blocked"
    assert attention.chosen(long, long, long, None, True) == "sdpa"  # would keep too many weights
    assert attention.chosen(one, q, q) == "sdpa"
    assert attention.chosen(q, q, q, torch.zeros(LONG, LONG)) == "sdpa"  # an additive mask, perhaps with a gradient
    assert attention.chosen(q, q, q, None, True, 1.0, 30.0) == "reference"  # the fused kernel has no cap
    assert attention.chosen(long, long, long, None, True, 1.0, None, 0.1) == "reference"  # nor a fast dropout
    assert attention.chosen(long, long, long, None, True, 1.0, None, 0.0, 256) == "blocked"  # keeps the weights of windows alone
    assert attention.chosen(long, long, long, None, True, 1.0, None, 0.0, LONG) == "sdpa"


@pytest.mark.parametrize(("time", "keys"), [(1, 9), (5, 9), (9, 5), (LONG + 1, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_order_needs_a_key_for_every_query(time: int, keys: int, dtype: torch.dtype) -> None:
    """Paths would take the first or the last key for the first query's own; none is asked."""
    qkv = _inputs(time, keys, head=16, dtype=dtype)
    for mask in (None, torch.ones(2, 1, 1, keys, dtype=torch.bool)):
        assert attention.chosen(*qkv, mask, True) == "reference"
        with pytest.raises(ValueError, match=f"{time} queries to {keys} keys.*causal=False"):
            attention(*qkv, mask, True)


@pytest.mark.parametrize(("causal", "window"), [(False, 4), (True, 0)])
def test_a_window_reaches_back(causal: bool, window: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        with pytest.raises(ValueError, match=f"window of {window} keys"):
            attention(*_inputs(6, 6, head=16, dtype=dtype), None, causal, 1.0, None, 0.0, window)


@needs_kernel
def test_what_the_kernel_leaves_to_others() -> None:
    q, odd = torch.randn(1, 2, 40, 16).bfloat16(), torch.randn(1, 2, 40, 24).bfloat16()
    assert attention.chosen(q, q, q) == "native"
    assert attention.chosen(q.float(), q.float(), q.float()) == "blocked"
    assert attention.chosen(odd, odd, odd) == "blocked"
    assert attention.chosen(q, q, q, torch.ones(1, 1, 40, 40, dtype=torch.bool)) == "blocked"
    assert attention.chosen(q, q, q, None, True, 1.0, None, 0.1) == "native"
    assert attention.chosen(q, q, q, None, True, 1.0, None, 1.0) == "blocked"


def test_dropout_with_gradients() -> None:
    """One block of queries draws its dropout as one tensor, which the readable formula can draw again."""
    qkv = _inputs(9, 9)

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        kept = drop(torch.ones(8, 9, 9), 0.4).view(2, 4, 9, 9)
        scores = (q @ k.mT * 0.3).masked_fill(torch.ones(9, 9).triu(1).bool(), float("-inf"))
        return (scores.softmax(-1) * kept) @ v

    def blocked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention.paths["blocked"][1](q, k, v, None, True, 0.3, None, 0.4)

    results = []
    for path in (blocked, plain):
        torch.manual_seed(3)
        results.append(_run(path, qkv))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@needs_kernel
@pytest.mark.parametrize(("time", "causal", "window"), [(48, False, None), (80, True, None), (144, True, 40)])
def test_kernel_with_dropout(time: int, causal: bool, window: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are the identity show which weights stayed; with these the definition gives the rest, gradients too."""
    qkv = _inputs(time, time, head=time, dtype=torch.bfloat16)
    args = None, causal, 0.1, None, 0.3, window
    assert attention.chosen(*qkv, *args) == "native"

    def kernel(*qkv: Tensor) -> Tensor:
        torch.manual_seed(5)
        return attention(*qkv, *args)

    one = torch.eye(time).bfloat16().expand_as(qkv[2])
    weights = attention(qkv[0], qkv[1], one, None, causal, 0.1, None, 0.0, window)
    left = kernel(qkv[0], qkv[1], one)
    stayed = (left != 0).float()
    torch.testing.assert_close(left, weights * stayed.bfloat16() / 0.7, atol=1e-2, rtol=2e-2)
    seen = weights != 0
    assert abs(stayed[seen].mean() - 0.7) < 0.02 and len(stayed.flatten(0, 1).unique(dim=0)) == 8  # every head draws for itself

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.mT * 0.1
        if causal:
            scores = scores.masked_fill(~seen, float("-inf"))
        return scores.softmax(-1) * (stayed / 0.7) @ v

    exact = _run(plain, [t.detach().float().requires_grad_() for t in qkv])
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        found.append(_run(kernel, qkv))
    for a, b, c in zip(*found, exact, strict=True):
        assert torch.equal(a, b) and (a.float() - c).norm() < 0.015 * c.norm() + 1e-2


def test_dropout_falls_on_the_weights() -> None:
    q, k = torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1000, 4)
    v = torch.eye(1000)[None, None]
    weights = attention(q, k, v, None, False, 1.0, None, 0.25)[0, 0, 0] * 1000
    kept = weights > 0
    assert 0.7 < kept.float().mean() < 0.8
    torch.testing.assert_close(weights[kept], torch.full((int(kept.sum()),), 1 / 0.75))
