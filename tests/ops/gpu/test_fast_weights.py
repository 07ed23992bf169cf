"""Fast weights whose memory goes from chunk to chunk in kernels in Triton, against the recurrence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensorMode

from genus.ops import gpu
from genus.ops.dispatch import forced
from genus.ops.fast_weights import fast_weights
from genus.ops.memory_scan import delta_scan, key_scan, sum_scan
from genus.ops.unit_lower import _Inverse, unit_lower_inverse

from .conftest import Context

scan = pytest.importorskip("genus.ops.gpu.scan", reason="no Triton here")
B, H = 2, 2


@contextmanager
def by_kernels() -> Iterator[None]:
    names = ("sum_scan", "key_scan", "delta_scan", "unit_lower_inverse")
    with forced(fast_weights="chunked", **dict.fromkeys(names, "triton")):
        yield


def _draw(
    time: int, device: torch.device, rule: str = "", features: int = 5, width: int = 4, dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """`rule`: of the words delta, decay, fresh, pad, memory, normalise, those that are wanted."""
    q, k = (torch.randn(B, H, time, features, device=device).abs() + 0.1 for _ in range(2))
    k = F.normalize(k, dim=-1)
    drawn: dict[str, Any] = {"q": q.to(dtype), "k": k.to(dtype), "v": torch.randn(B, H, time, width, device=device).to(dtype)}
    if "decay" in rule:
        drawn["log_decay"] = -torch.rand(B, H, time, device=device)
    if "delta" in rule:
        drawn["beta"] = torch.rand(B, H, time, device=device) * 1.8
    if "memory" in rule:
        total = torch.rand(B, H, features, device=device) if "normalise" in rule else None
        drawn["memory"] = (torch.randn(B, H, features, width, device=device), total)
    if "fresh" in rule:
        drawn["fresh"] = torch.rand(B, time, device=device) < 0.15
    if "pad" in rule:
        drawn["pad"] = torch.rand(B, time, device=device) < 0.2
    return drawn | {"normalise": "normalise" in rule}


def _run(path: Any, arguments: dict[str, Any], **options: Any) -> list[Tensor]:
    leaves = [t for t in (*arguments.values(), *arguments.get("memory", ())) if isinstance(t, Tensor) and t.is_floating_point()]
    y, (matrix, total) = path(**arguments, **options)
    outputs = [y, matrix, *([] if total is None else [total])]
    weights = [torch.linspace(-1, 1, o.numel(), device=o.device).view_as(o) for o in outputs]
    loss = sum((o * w).sum() for o, w in zip(outputs, weights, strict=True))
    return [*outputs, *torch.autograd.grad(loss, [leaf.requires_grad_() for leaf in leaves])]


@pytest.mark.parametrize(
    ("time", "rule"),
    [
        (2, "delta"),
        (21, ""),
        (16, "normalise memory"),
        (21, "decay normalise pad"),
        (21, "fresh memory"),
        (19, "delta fresh pad"),
        (24, "delta decay memory"),
        (37, "delta decay normalise fresh pad memory"),
    ],
)
def test_is_the_recurrence(device: torch.device, time: int, rule: str) -> None:
    arguments = _draw(time, device, rule)
    for t in (*arguments.values(), *arguments.get("memory", ())):
        if isinstance(t, Tensor) and t.is_floating_point():
            t.requires_grad_()
    expected = _run(fast_weights.reference, arguments)
    with by_kernels():
        found = _run(fast_weights, arguments, chunk=8)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("rule", ["decay", "delta decay"])
def test_half_precision_and_wide_memories(device: torch.device, rule: str) -> None:
    """Two blocks of columns, the second not full; the memory is as exact as with the loop in torch."""
    arguments = _draw(50, device, rule, features=20, width=40, dtype=torch.float16)
    exact = {n: t.double() if isinstance(t, Tensor) else t for n, t in arguments.items()}
    for t in (*arguments.values(), *exact.values()):
        if isinstance(t, Tensor):
            t.requires_grad_()
    wanted = _run(fast_weights.reference, exact)
    other = _run(fast_weights.paths["chunked"][1], arguments, chunk=16)
    with by_kernels():
        found = _run(fast_weights, arguments, chunk=16)
    assert found[0].dtype == torch.float16 and found[1].dtype == torch.float32
    for a, b, c in zip(found, other, wanted, strict=True):
        assert a.dtype == b.dtype
        assert (a.double() - c).norm() <= 1.5 * (b.double() - c).norm() + 1e-3 * c.norm()


@pytest.mark.parametrize("size", [1, 5, 16, 33])
def test_inverse(device: torch.device, size: int) -> None:
    a = torch.randn(2, 3, size, size, device=device).mT.requires_grad_()
    found = unit_lower_inverse.paths["triton"][1](a)
    expected = unit_lower_inverse.reference(a)
    torch.testing.assert_close(found / expected.abs().max(), expected / expected.abs().max(), atol=1e-5, rtol=1e-4)
    if size < 16:
        g = torch.randn_like(found)
        torch.testing.assert_close(*(torch.autograd.grad(y, a, g)[0] for y in (found, expected)), atol=1e-3, rtol=1e-3)


def test_no_second_derivative(device: torch.device) -> None:
    for rule in ("", "delta"):
        arguments = _draw(9, device, rule)
        arguments["v"].requires_grad_()
        with by_kernels(), pytest.raises(RuntimeError, match="has no second derivatives"):
            torch.autograd.grad(fast_weights(**arguments)[0].square().sum(), arguments["v"], create_graph=True)


def test_under_a_compiler(device: torch.device) -> None:
    """In one graph: the kernels are not looked into, and the number of chunks does not lengthen it."""
    arguments = _draw(24, device, "delta decay")
    leaves = [arguments[n].requires_grad_() for n in ("q", "k", "v", "log_decay", "beta")]

    def run(*tensors: Tensor) -> Tensor:
        with by_kernels():
            return fast_weights(*tensors, chunk=8)[0]

    found = torch.compile(run, backend="aot_eager", fullgraph=True)(*leaves)
    expected = run(*leaves)
    torch.testing.assert_close(found, expected)
    pairs = zip(*(torch.autograd.grad(y.square().sum(), leaves) for y in (found, expected)), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b)


def test_on_a_gpu_nothing_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without numbers, said to lie on a GPU: where a number were needed on the processor, this would be an error."""
    monkeypatch.setattr(gpu, "works", lambda device: True)
    rows, chunks, size, features, width = 4, 3, 8, 5, 6
    with FakeTensorMode(), torch.no_grad():
        k = torch.empty(rows, chunks, size, features, device="cuda", dtype=torch.bfloat16)
        v = torch.empty(rows, chunks, size, width, device="cuda", dtype=torch.bfloat16)
        keep = torch.empty(rows, chunks, device="cuda")
        start = torch.empty(rows, features, width, device="cuda")
        split = [x.unflatten(0, (2, 2)) for x in (v, k, k, keep, start)]
        assert delta_scan.chosen(*split) == sum_scan.chosen(split[0], *split[2:]) == "triton"
        assert key_scan.chosen(*split[2:]) == unit_lower_inverse.chosen(start) == "triton"
        assert delta_scan.chosen(*split[:4], split[4].double()) == "batched"  # what the kernels do not know
        for found in (delta_scan(*split), sum_scan(split[0], *split[2:]), key_scan(split[2], split[3], split[4].sum(-1))):
            *_, before, last = found
            assert before.device.type == last.device.type == "cuda" and last.dtype == torch.float32
        for used in (k, None):
            context = Context([True] * 6)
            found = scan.Scan.forward(context, v, used, k, keep, start, False)
            grads = scan.Scan.backward(context, *found)
            for g, x in zip(grads, (v, used, k, keep, start, None), strict=True):
                assert (g is None and x is None) or (g.shape == x.shape and g.dtype == x.dtype and g.device == x.device)
        context = Context([True, False])
        system = torch.empty(2, 8, 8, device="cuda")
        assert _Inverse.backward(context, _Inverse.forward(context, system, True))[0].device.type == "cuda"


def test_what_finds_no_room_is_left_to_torch() -> None:
    assert scan.fits(torch.empty(64, 256, dtype=torch.bfloat16)) and scan.fits(torch.empty(64, 128))
    assert not scan.fits(torch.empty(64, 257, dtype=torch.bfloat16)) and not scan.fits(torch.empty(128, 128))
    assert delta_scan.chosen(*[torch.empty(1, 1, 1, 8, 8)] * 3, None, torch.empty(1, 1, 8, 8)) == "batched"
