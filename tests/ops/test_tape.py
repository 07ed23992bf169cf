"""Tapes: what is recorded is computed again on other numbers; what cannot be recorded is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genus.ops import pointwise
from genus.ops.activation import gelu, gelu_tanh, silu
from genus.ops.fast_weights import fast_weights
from genus.ops.norm import rms_norm
from genus.ops.tape import Recorder, Unrecordable, replayer

pytestmark = pytest.mark.skipif(replayer() is None, reason="no kernels in C here")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_other_numbers_in_the_same_memory(dtype: torch.dtype) -> None:
    a, b, weight = (torch.randn(3, 40).to(dtype) for _ in range(3))
    weight = weight[0].float()

    def work() -> torch.Tensor:
        return (rms_norm(a + b, weight, 1e-6) * silu(b)).view(1, 3, 40).relu() + gelu_tanh(a).unsqueeze(0)

    with torch.inference_mode():
        recorder = Recorder()
        y = recorder.record(work)
        assert len(recorder.tape) == 7
        for _ in range(3):
            a.copy_(torch.randn(3, 40))
            b.copy_(torch.randn(3, 40))
            recorder.tape.replay()
            assert torch.equal(y, work())


@torch.inference_mode()
def test_keeping_in_places_that_change() -> None:
    kept, new = torch.zeros(4, 2, 9, 3), torch.randn(4, 2, 3)
    rows, columns = torch.arange(4), torch.tensor([0, 8, 3, 3])

    def work() -> torch.Tensor:
        kept[rows, :, columns] = new
        return kept

    recorder = Recorder()
    recorder.record(work)
    columns.copy_(torch.tensor([1, 2, 8, 0]))
    new.copy_(torch.randn(4, 2, 3))
    expected = kept.clone()
    expected[rows, :, columns] = new
    recorder.tape.replay()
    assert torch.equal(kept, expected)


@torch.inference_mode()
def test_side_by_side_and_in_another_place() -> None:
    a, b = torch.randn(2, 1, 5), torch.randn(2, 1, 7)

    def work() -> torch.Tensor:
        return torch.stack([torch.cat([a, b], -1)[:, :] * 0.5], 1)

    recorder = Recorder()
    y = recorder.record(work)
    recorder.tape.loosen([a])
    c = torch.randn(2, 1, 5)
    recorder.tape.replay([c.data_ptr()])
    assert torch.equal(y, torch.cat([c, b], -1)[:, None] * 0.5)
    recorder.tape.replay([a.data_ptr()])
    assert torch.equal(y, work())


@pytest.mark.parametrize(
    "work",
    [lambda a: a.sin(), lambda a: a + 1, lambda a: a + a.T, lambda a: a[:, :2] * 2, lambda a: a @ a, lambda a: torch.cat([a, a])],
)
def test_what_is_not_a_kernels_work_is_refused(work: object) -> None:
    with torch.inference_mode(), pytest.raises(Unrecordable):
        Recorder().record(lambda: work(torch.ones(3, 3)))  # type: ignore[operator]


@torch.inference_mode()
def test_what_is_paused_is_not_recorded() -> None:
    a, recorder = torch.ones(4), Recorder()
    y = recorder.record(lambda: a + recorder.paused(lambda: a.sin()))
    assert len(recorder.tape) == 1 and torch.equal(y, a + a.sin())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("count", [1, 16, 37, 100_003])
def test_pointwise(dtype: torch.dtype, count: int) -> None:
    a, b = (torch.randn(count) * 4).to(dtype), torch.randn(count).to(dtype)
    assert torch.equal(pointwise.run(pointwise.ADD, a, b), a + b)
    assert torch.equal(pointwise.run(pointwise.MULTIPLY, a, b), a * b)
    assert torch.equal(pointwise.run(pointwise.RELU, a), a.relu())
    assert torch.equal(pointwise.scale(a, 0.3), a * 0.3)
    close: dict[str, Any] = {torch.bfloat16: {"atol": 1e-6, "rtol": 2**-7}, torch.float32: {"atol": 1e-6, "rtol": 1e-5}}[dtype]
    for op in (silu, gelu_tanh, gelu):
        assert op.chosen(a) == "native"
        torch.testing.assert_close(op(a), op.reference(a.double()).to(dtype), **close)
    extreme = torch.tensor([0.0, -1e4, 1e4, -100.0, 100.0, float("nan")]).to(dtype)
    for op in (silu, gelu_tanh, gelu):
        torch.testing.assert_close(op(extreme), op.reference(extreme), equal_nan=True, atol=1e-6, rtol=2**-7)
    assert pointwise.run(pointwise.RELU, extreme).isnan().tolist() == [False] * 5 + [True]


@torch.inference_mode()
def test_conversions() -> None:
    x = torch.randn(3, 21)

    def work() -> torch.Tensor:
        return (x.bfloat16() * 2.0).float()

    recorder = Recorder()
    y = recorder.record(work)
    assert len(recorder.tape) == 3
    x.copy_(torch.randn(3, 21))
    recorder.tape.replay()
    assert torch.equal(y, work())
    with pytest.raises(Unrecordable, match="conversion"):
        Recorder().record(lambda: x.double())


@torch.inference_mode()
def test_a_kernel_of_too_many_arguments_is_refused() -> None:
    x = torch.randn(1, 2, 4, 16)
    with pytest.raises(Unrecordable, match="arguments"):
        Recorder().record(lambda: fast_weights(x, x, x)[0])
