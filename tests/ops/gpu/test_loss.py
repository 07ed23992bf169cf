"""The read-out's cross-entropy by a kernel in Triton against the definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from genus.ops import cross_entropy, gpu
from genus.ops.cross_entropy import IGNORE, linear_cross_entropy
from genus.ops.dispatch import forced

from .conftest import Context

loss = pytest.importorskip("genus.ops.gpu.loss", reason="no Triton here")
TRITON = linear_cross_entropy.paths["triton"][1]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen rows at a time, sixteen symbols at a time."""
    monkeypatch.setattr(cross_entropy, "GPU_CHUNK_BYTES", 1)
    monkeypatch.setattr(loss, "BLOCK", 16)


def _inputs(
    rows: int, device: torch.device, vocab: int = 33, bias: bool = True, dtype: torch.dtype = torch.float32, dim: int = 12
) -> dict[str, Any]:
    targets = torch.randint(0, vocab, (rows,), device=device)
    targets.masked_fill_(torch.arange(rows, device=device) % 3 == 0, IGNORE)
    return {
        "hidden": torch.randn(rows, dim, device=device).to(dtype).requires_grad_(),
        "weight": torch.randn(vocab, dim, device=device).requires_grad_(),
        "targets": targets,
        "bias": torch.randn(vocab, device=device).requires_grad_() if bias else None,
    }


def _run(path: Any, inputs: dict[str, Any], factor: float = 1.0, **options: Any) -> list[Tensor]:
    leaves = [v for v in inputs.values() if v is not None and v.requires_grad]
    total = path(**inputs, **options)
    return [total, *torch.autograd.grad(total * factor, leaves)]


@pytest.mark.parametrize(
    ("rows", "vocab", "bias", "options"),
    [
        (1, 33, True, {}),
        (17, 1, False, {}),
        (17, 16, True, {"scale": 0.3}),
        (17, 33, False, {"softcap": 2.0}),
        (20, 65, True, {"smoothing": 0.1}),
        (33, 40, True, {"smoothing": 0.3, "softcap": 2.0, "scale": 0.3}),
    ],
    ids=str,
)
def test_is_the_definition(device: torch.device, rows: int, vocab: int, bias: bool, options: dict[str, float]) -> None:
    inputs = _inputs(rows, device, vocab, bias)
    expected = _run(linear_cross_entropy.reference, inputs, 1 / 7, **options)
    for a, b in zip(_run(TRITON, inputs, 1 / 7, **options), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(device: torch.device, dtype: torch.dtype) -> None:
    """Weights and their gradients stay in float32; as near to the definition in float32 as the path in torch."""
    options = {"softcap": 3.0, "smoothing": 0.2, "scale": 0.7}
    inputs = _inputs(20, device, dtype=dtype)
    inputs["hidden"] = inputs["hidden"].detach().mT.contiguous().mT.requires_grad_()
    exact = {n: x.detach().to(dtype).float().requires_grad_() if x.is_floating_point() else x for n, x in inputs.items()}
    wanted = _run(linear_cross_entropy.reference, exact, **options)
    other = _run(linear_cross_entropy.paths["chunked"][1], inputs, **options)
    found = _run(TRITON, inputs, **options)
    assert [x.dtype for x in found] == [torch.float32, dtype, torch.float32, torch.float32]
    near = 1.5 if dtype == torch.float16 or device.type == "cuda" else 4  # Triton's interpreter cuts off digits of bfloat16
    for a, b, c in zip(found, other, wanted, strict=True):
        assert (a.float() - c).norm() <= near * (b.float() - c).norm() + 2e-3 * (c.norm() + 1)


@pytest.mark.parametrize("trained", ["hidden", "weight", "bias", ""])
def test_parts_may_be_frozen(device: torch.device, trained: str) -> None:
    inputs = _inputs(18, device)
    for name in ("hidden", "weight", "bias"):
        inputs[name].requires_grad_(name == trained)
    if not trained:
        assert not TRITON(**inputs).requires_grad
        return
    for a, b in zip(_run(TRITON, inputs), _run(linear_cross_entropy.reference, inputs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_symbols_that_cannot_come(device: torch.device) -> None:
    """A bias of -inf, over whole blocks of symbols; rows that are all ignored; large logits."""
    inputs = _inputs(8, device, 48)
    with torch.no_grad():
        inputs["bias"][:20] = float("-inf")
        inputs["targets"].clamp_(min=20)
    for a, b in zip(_run(TRITON, inputs), _run(linear_cross_entropy.reference, inputs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    inputs["targets"].fill_(IGNORE)
    total, *grads = _run(TRITON, inputs)
    assert total == 0 and all((g == 0).all() for g in grads)
    hidden, weight = torch.full((4, 1), 200.0, device=device), torch.tensor([[3.0], [-3.0]], device=device)
    torch.testing.assert_close(TRITON(hidden, weight, torch.tensor([0, 1] * 2, device=device)).cpu(), torch.tensor(2400.0))


def test_what_is_not_a_number_and_what_is_no_target(device: torch.device) -> None:
    inputs = _inputs(6, device)
    with torch.no_grad():
        inputs["hidden"][4, 3] = float("nan")
        assert TRITON(**inputs).isnan()
        if device.type == "cuda":
            return  # such an error ends the use of the device
        for wrong in (33, -1):
            inputs["targets"][4] = wrong
            with pytest.raises(RuntimeError, match="a target is out of bounds: the vocabulary has 33 symbols"):
                TRITON(**inputs)


def test_no_second_derivative(device: torch.device) -> None:
    inputs = _inputs(3, device)
    with pytest.raises(RuntimeError, match="has no second derivatives"):
        torch.autograd.grad(TRITON(**inputs), inputs["hidden"], create_graph=True)


@pytest.mark.skipif(not cross_entropy.SOUND, reason="this torch loses what is written in place")
def test_under_a_compiler(device: torch.device) -> None:
    """In one graph: the kernel is not looked into."""
    inputs = _inputs(20, device, 20)

    def run(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        with forced(linear_cross_entropy="triton"):
            return linear_cross_entropy(hidden, weight, inputs["targets"], bias, 1.0, 5.0, 0.1) / 7

    leaves = [inputs[name] for name in ("hidden", "weight", "bias")]
    found = torch.compile(run, backend="aot_eager", fullgraph=True)(*leaves)
    expected = run(*leaves)
    torch.testing.assert_close(found, expected)
    for a, b in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(a, b)


def test_on_a_gpu_nothing_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors without numbers, said to lie on a GPU: where a number were needed on the processor, this would be an error."""
    monkeypatch.setattr(gpu, "works", lambda device: True)
    with FakeTensorMode(), torch.no_grad():
        inputs = _inputs(40, torch.device("cuda"), dtype=torch.bfloat16)
        assert linear_cross_entropy.chosen(**inputs) == "triton"
        context = Context([True] * 9)  # a torch without CUDA has no graph for tensors on a GPU
        total = cross_entropy._Native.forward(context, *inputs.values(), 0.5, 2.0, 0.1, True, cross_entropy._OnGPU)
        hidden, weight, _, bias, *_ = cross_entropy._Native.backward(context, total)
        assert total.device.type == "cuda" and total.dtype == torch.float32 and total.shape == ()
        assert [(g.shape, g.dtype, g.device.type) for g in (hidden, weight, bias)] == [
            ((40, 12), torch.bfloat16, "cuda"),
            ((33, 12), torch.float32, "cuda"),
            ((33,), torch.float32, "cuda"),
        ]


def test_on_a_processor_other_paths_are_taken() -> None:
    inputs = _inputs(4, torch.device("cpu"))
    assert linear_cross_entropy.chosen(**inputs) != "triton"
