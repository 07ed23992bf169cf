"""The read-out's cross-entropy in chunks against the plain one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import cross_entropy
from genus.ops.cross_entropy import IGNORE, linear_cross_entropy
from genus.ops.native import library

Path = Any
needs_kernel = pytest.mark.skipif(library("loss") is None, reason="no kernel in C here")


@pytest.fixture(params=["chunked", "native"], name="path")
def _path(request: pytest.FixtureRequest) -> Path:
    if request.param == "native" and library("loss") is None:
        pytest.skip("no kernel in C here")
    return linear_cross_entropy.paths[request.param][1]


@pytest.fixture(autouse=True)
def _tiny_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 1)  # sixteen rows at a time


def _inputs(rows: int, vocab: int = 33, dim: int = 12, bias: bool = True, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    targets = torch.randint(0, vocab, (rows,))
    targets[::3] = IGNORE
    return {
        "hidden": torch.randn(rows, dim).to(dtype).requires_grad_(),
        "weight": torch.randn(vocab, dim).requires_grad_(),
        "targets": targets,
        "bias": torch.randn(vocab).requires_grad_() if bias else None,
    }


def _run(path: Any, inputs: dict[str, Any], factor: float = 1.0, **options: Any) -> list[Tensor]:
    leaves = [v for v in inputs.values() if v is not None and v.requires_grad]
    loss = path(**inputs, **options)
    return [loss, *torch.autograd.grad(loss * factor, leaves)]


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 64, 100])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3},
        {"softcap": 2.0},
        {"scale": 0.3, "softcap": 5.0},
        {"smoothing": 0.1},
        {"smoothing": 0.3, "softcap": 2.0, "scale": 0.3},
    ],
    ids=str,
)
@pytest.mark.parametrize("bias", [True, False])
def test_chunked(path: Path, rows: int, options: dict[str, float], bias: bool) -> None:
    inputs = _inputs(rows, bias=bias)
    expected = _run(linear_cross_entropy.reference, inputs, 1 / 7, **options)
    for a, b in zip(_run(path, inputs, 1 / 7, **options), expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_bfloat16_activations_over_float32_weights(path: Path) -> None:
    inputs = _inputs(70, dtype=torch.bfloat16)
    loss, hidden, weight, bias = _run(path, inputs, 1 / 7)
    expected = _run(linear_cross_entropy.reference, inputs, 1 / 7)
    assert (loss.dtype, hidden.dtype, weight.dtype, bias.dtype) == (torch.float32, torch.bfloat16, torch.float32, torch.float32)
    for a, b in zip((loss, hidden, weight, bias), expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-2, rtol=2e-2)


def test_reference_is_the_sum_of_surprises() -> None:
    inputs = _inputs(20)
    logits = inputs["hidden"] @ inputs["weight"].T + inputs["bias"]
    keep = inputs["targets"] != IGNORE
    expected = -logits.log_softmax(-1)[keep, inputs["targets"][keep]].sum()
    torch.testing.assert_close(linear_cross_entropy.reference(**inputs), expected)


def test_smoothing_spreads_the_target(path: Path) -> None:
    """The cross-entropy with 0.9 of the target and 0.1 of the uniform distribution (Szegedy et al. 2016, section 7)."""
    inputs = _inputs(20)
    log_p = (inputs["hidden"] @ inputs["weight"].T + inputs["bias"]).log_softmax(-1)
    keep = inputs["targets"] != IGNORE
    wanted = 0.9 * F.one_hot(inputs["targets"][keep], 33) + 0.1 / 33
    torch.testing.assert_close(path(**inputs, smoothing=0.1), -(wanted * log_p[keep]).sum())


def test_nothing_to_predict(path: Path) -> None:
    inputs = _inputs(40)
    inputs["targets"].fill_(IGNORE)
    loss, *grads = _run(path, inputs)
    assert loss == 0 and all((g == 0).all() for g in grads)


@pytest.mark.parametrize("trained", ["hidden", "weight", "bias"])
def test_parts_may_be_frozen(path: Path, trained: str) -> None:
    inputs = _inputs(40)
    for name in ("hidden", "weight", "bias"):
        inputs[name].requires_grad_(name == trained)
    for a, b in zip(_run(path, inputs), _run(linear_cross_entropy.reference, inputs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_validation_computes_no_gradients(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = _inputs(40)
    products = []
    matmul = torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda *a, **k: products.append(1) or matmul(*a, **k))
    with torch.no_grad():
        torch.testing.assert_close(path(**inputs), linear_cross_entropy.reference(**inputs))
    assert not products


def test_large_logits_do_not_overflow(path: Path) -> None:
    hidden, weight = torch.full((20, 1), 200.0), torch.tensor([[3.0], [-3.0]])
    targets = torch.tensor([0, 1]).repeat(10)
    torch.testing.assert_close(path(hidden, weight, targets), torch.tensor(12000.0))


@needs_kernel
@pytest.mark.parametrize("vocab", [1, 15, 16, 65, 1000])
@pytest.mark.parametrize("options", [{}, {"softcap": 3.0, "smoothing": 0.2, "scale": 0.7}], ids=str)
def test_kernel_in_bfloat16(vocab: int, options: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """As near to the definition in float32 as the path in torch; the same on any number of threads; any vocabulary."""
    inputs = _inputs(70, vocab=vocab, dim=24, dtype=torch.bfloat16)
    inputs["hidden"] = inputs["hidden"].detach().movedim(0, 1).contiguous().movedim(0, 1).requires_grad_()
    assert linear_cross_entropy.chosen(**inputs, **options) == "native"
    exact = inputs | {k: inputs[k].detach().bfloat16().float().requires_grad_() for k in ("hidden", "weight", "bias")}
    wanted = _run(linear_cross_entropy.reference, exact, **options)
    other = _run(linear_cross_entropy.paths["chunked"][1], inputs, **options)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        found.append(_run(linear_cross_entropy, inputs, **options))
    for a, again, b, c in zip(*found, other, wanted, strict=True):
        assert torch.equal(a, again) and a.dtype == b.dtype
        assert (a.float() - c).norm() <= 1.5 * (b.float() - c).norm() + 1e-3 * (c.norm() + 1)


@needs_kernel
def test_kernel_tells_what_is_not_a_number_and_what_is_no_target() -> None:
    inputs = _inputs(20)
    with torch.no_grad():
        inputs["hidden"][4, 3] = float("nan")
        assert linear_cross_entropy(**inputs).isnan()
        for wrong in (33, -1):
            inputs["targets"][4] = wrong
            with pytest.raises(IndexError, match=f"target {wrong} is out of bounds: the vocabulary has 33"):
                linear_cross_entropy(**inputs)


def test_which_path(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets = torch.randn(8, 4), torch.randn(32, 4), torch.arange(8)
    monkeypatch.setattr(cross_entropy, "_kernel", lambda: None)
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 8 * 32 * 4)
    assert linear_cross_entropy.chosen(hidden, weight, targets) == "reference"
    monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 8 * 32 * 4 - 1)
    assert linear_cross_entropy.chosen(hidden, weight, targets) == "chunked"


def test_compiled_by_a_torch_that_loses_what_is_written_the_definition_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    hidden, weight, targets = torch.randn(8, 4), torch.randn(32, 4), torch.arange(8)
    for sound, path in ((True, "chunked"), (False, "reference")):
        monkeypatch.setattr(cross_entropy, "SOUND", sound)
        assert linear_cross_entropy.chosen(hidden, weight, targets) == path


def test_never_holds_all_logits(path: Path) -> None:
    """The largest tensor that is made stays near the chunk."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                Largest.size = max(Largest.size, out.numel())
            return out

    inputs = _inputs(640, vocab=1000)
    with Largest():
        F.mse_loss(path(**inputs), torch.zeros(())).backward()
    assert Largest.size <= 16 * 1000
