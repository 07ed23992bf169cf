"""Matrices stored for decoding: every storage against the plain product with the matrix that it stands for."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import native, packed
from genus.ops.dispatch import forced
from genus.ops.linear import linear, linears
from genus.ops.packed import Int4Rows, Int8Rows, Packed, Tiles, TorchInt4, pack
from genus.ops.rounding import to_int4, to_int8

FORMATS = ("bf16", "int8", "int4")
SHAPES = [(64, 32), (1, 1), (70, 33), (200, 300), (129, 128), (3, 1000)]
needs_kernel = pytest.mark.skipif(bool(native.reason("linear")), reason=native.reason("linear") or "it is there")


@pytest.fixture
def without_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "kernel", lambda: None)


def meant(weight: Tensor, format: str, group: int = 32) -> Tensor:
    """The matrix that a rounding stands for, by its definition, in float32."""
    if format == "bf16":
        return weight.bfloat16().float()
    if format == "int8":
        codes, scales = to_int8(weight)
        return codes * scales[:, None]
    codes, scales4 = to_int4(weight, group)
    whole = (codes.float() - 8).unflatten(1, (-1, group)) * scales4.float()[..., None]
    return whole.flatten(1)[:, : weight.shape[1]]


def rounded(x: Tensor, format: str) -> Tensor:
    """What the kernel multiplies of rows in bf16: with integers, 8 bits of each number, by a scale for every 32 or 128."""
    if format == "bf16":
        return x.double()
    span = {"int8": 128, "int4": 32}[format]
    spans = F.pad(x.float(), (0, -x.shape[1] % span)).unflatten(1, (-1, span))
    most = spans.abs().amax(-1, keepdim=True)
    codes = (spans * torch.where(most > 0, 127 / most, 0)).round()
    return (codes.double() * most / 127).flatten(1)[:, : x.shape[1]]


@needs_kernel
@pytest.mark.parametrize("format", ["int8", "int4"])
def test_eight_bits_of_a_row_are_enough(format: str) -> None:
    """Rounding a row costs less than rounding the matrix did; what is not finite is not hidden."""
    weight, x = torch.randn(64, 512), torch.randn(6, 512) * torch.logspace(-2, 2, 6)[:, None]
    stored = pack(weight, format)
    ideal = x.bfloat16().double() @ weight.double().T
    matrix = (x.bfloat16().double() @ meant(weight, format).double().T - ideal).square().mean(1).sqrt()
    both = (linear(x.bfloat16(), stored).double() - ideal).square().mean(1).sqrt()
    assert bool((both < 1.7 * matrix).all())
    x[1, 5], x[2, 200] = float("nan"), float("inf")
    y = linear(x.bfloat16(), stored)
    assert y.isfinite().all(1).tolist() == [True, False, False, True, True, True]


@needs_kernel
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_tiles_hold_the_matrix(shape: tuple[int, int], format: str) -> None:
    weight = torch.randn(shape)
    stored = pack(weight, format)
    assert isinstance(stored, Tiles) and stored.shape == weight.shape and stored.device == weight.device
    assert torch.equal(stored.dense(torch.float32), meant(weight, format))
    ids = torch.randint(0, shape[0], (2, 3))
    assert torch.equal(stored.rows(ids, torch.float32), meant(weight, format)[ids])
    assert stored.rows(ids[0, 0], torch.bfloat16).dtype == torch.bfloat16


@needs_kernel
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 13, 241, 500])
def test_the_kernel_multiplies(shape: tuple[int, int], rows: int, format: str) -> None:
    """Against float64 products of what is stored with x, in 16 bits or 8: what is left is the rounding of the result."""
    weight, bias = torch.randn(shape), torch.randn(shape[0])
    stored = pack(weight, format)
    x = torch.randn(rows, shape[1])
    exact = rounded(x.bfloat16(), format) @ meant(weight, format).double().T + bias
    size = (x.abs().double() @ meant(weight, format).abs().double().T + bias.abs()).amax()
    assert linear.chosen(x.bfloat16(), stored, bias) == "native"
    assert float((linear(x.bfloat16(), stored, bias) - exact).abs().max() / size) < 3e-3
    exact = x.double() @ meant(weight, format).double().T
    assert float((linear(x, stored) - exact).abs().max() / size) < 1e-5


@needs_kernel
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_several_matrices_in_one_call(dtype: torch.dtype, format: str) -> None:
    """The results are those of one call for each, bit for bit; what does not fit together is multiplied one by one."""
    x, bias = torch.randn(3, 2, 70).to(dtype), torch.randn(130)
    stored = tuple(pack(torch.randn(outputs, 70), format) for outputs in (130, 5, 64))
    biases = (bias, None, torch.randn(64).bfloat16())
    assert linears.chosen(x, stored, biases) == "native"
    alone = [linear(x, *pair) for pair in zip(stored, biases, strict=True)]
    for one, other in zip(linears(x, stored, biases), alone, strict=True):
        assert one.shape == other.shape and one.dtype == dtype and torch.equal(one, other)
    mixed = (stored[0], torch.randn(4, 70))
    assert linears.chosen(x, mixed, (None, None)) == "reference"
    assert linears.chosen(x, (pack(torch.randn(4, 70), "int8"), pack(torch.randn(4, 70), "int4")), (None, None)) == "reference"
    assert torch.equal(linears(x, mixed, (None, None))[0], linear(x, stored[0]))
    assert [len(y) for y in linears(x[:0], stored, biases)] == [0, 0, 0]


@needs_kernel
def test_a_copy_has_memory_of_its_own() -> None:
    x, stored = torch.randn(1, 64), pack(torch.randn(64, 64), "int8")
    before = linear(x, stored)
    other = copy.deepcopy(stored)
    stored.codes.fill_(128)  # type: ignore[union-attr]
    assert torch.equal(linear(x, other), before) and not linear(x, stored).any()


@needs_kernel
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_does_not_depend_on_its_neighbours(format: str, dtype: torch.dtype) -> None:
    """Bit for bit, whatever the number of rows and of threads."""
    stored = pack(torch.randn(300, 400), format)
    x = torch.randn(300, 400).to(dtype)
    whole = linear(x, stored)
    for rows in (1, 3, 6, 8, 250):
        assert torch.equal(linear(x[:rows], stored), whole[:rows])
    torch.set_num_threads(2)
    assert torch.equal(linear(x, stored), whole)


@needs_kernel
@pytest.mark.parametrize("group", [32, 64, 128])
def test_groups(group: int) -> None:
    weight, x = torch.randn(100, 320), torch.randn(9, 320)
    stored = pack(weight, "int4", group)
    torch.testing.assert_close(linear(x, stored), x @ meant(weight, "int4", group).T, atol=2e-3, rtol=1e-3)


@needs_kernel
def test_any_shape_of_activations() -> None:
    stored, weight = pack(w := torch.randn(24, 40), "bf16"), w.bfloat16().float()
    for shape in [(40,), (2, 40), (2, 3, 40), (0, 40), (2, 0, 40)]:
        x = torch.randn(shape)
        torch.testing.assert_close(linear(x, stored), x @ weight.T, atol=1e-3, rtol=1e-3)
    x = torch.randn(40, 6).T  # not contiguous
    torch.testing.assert_close(linear(x, stored), x @ weight.T, atol=1e-3, rtol=1e-3)
    half = torch.randn(24).bfloat16()
    torch.testing.assert_close(linear(x, stored, half), x @ weight.T + half, atol=1e-3, rtol=1e-3)


@needs_kernel
def test_where_the_kernel_does_not_serve_the_reference_does() -> None:
    stored, weight = pack(w := torch.randn(24, 40), "int8"), meant(w, "int8")
    x = torch.randn(3, 40, requires_grad=True)
    assert linear.chosen(x, stored) == "reference"
    linear(x, stored).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(3, -1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(linear(x.detach().double(), stored), x.detach().double() @ weight.double().T)
    with forced(linear="reference"):
        torch.testing.assert_close(linear(x, stored), x @ weight.T)


@needs_kernel
def test_numbers_that_are_none() -> None:
    """A row with something that is not a number says so, and leaves the others alone."""
    stored = pack(torch.randn(64, 64), "bf16")
    x = torch.randn(3, 64)
    good = linear(x, stored)
    x[1, 5] = float("nan")
    for dtype in (torch.float32, torch.bfloat16):
        y = linear(x.to(dtype), stored)
        assert bool(y[1].isnan().all()) and not bool(y[[0, 2]].isnan().any())
    assert torch.equal(linear(x, stored)[[0, 2]], good[[0, 2]])


STORAGES: list[tuple[str, Callable[[Tensor], Packed], str]] = [
    ("int8", lambda w: Int8Rows(w.shape, "int8", *to_int8(w)), "int8pack"),
    ("int4", lambda w: TorchInt4.pack(w, 32), "int4pack"),
    ("int4", lambda w: Int4Rows.pack(w, 32), "reference"),
]


@pytest.mark.parametrize(("format", "make", "path"), STORAGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_storages(format: str, make: Callable[[Tensor], Packed], path: str, dtype: torch.dtype) -> None:
    weight, bias = torch.randn(48, 256), torch.randn(48)
    stored, exact = make(weight), meant(weight, format)
    assert stored.bytes < weight.nbytes / 3
    x = torch.randn(2, 3, 256).to(dtype)
    assert linear.chosen(x, stored, bias) == path
    near = {"atol": 2e-3, "rtol": 1e-3} if dtype == torch.float32 else {"atol": 0.4, "rtol": 0.02}
    torch.testing.assert_close(linear(x, stored, bias).float(), x.float() @ exact.T + bias, **near)
    with forced(linear="reference"):
        torch.testing.assert_close(linear(x, stored, bias).float(), x.float() @ exact.T + bias, **near)
    ids = torch.tensor([[0, 47], [5, 5]])
    torch.testing.assert_close(stored.rows(ids, torch.float32), exact[ids], atol=1e-3, rtol=1e-2)


def test_what_is_chosen_without_a_kernel(without_kernel: None) -> None:
    weight = torch.randn(64, 256)
    assert isinstance(pack(weight, "int8"), Int8Rows)
    assert isinstance(pack(weight, "int4"), TorchInt4)
    assert isinstance(pack(weight[:, :100], "int4"), Int4Rows)
    plain = pack(weight, "bf16")
    assert isinstance(plain, Tensor) and plain.dtype == torch.bfloat16
    assert linear.chosen(torch.randn(200, 256), pack(weight, "int8")) == "reference"  # many rows: unpacked once


def test_under_a_compiler(without_kernel: None) -> None:
    stored = pack(torch.randn(32, 128), "int8")
    assert isinstance(stored, Packed)
    x = torch.randn(4, 128)
    compiled = torch.compile(lambda x: F.silu(linear(x, stored)), backend="eager")
    torch.testing.assert_close(compiled(x), F.silu(linear(x, stored)), atol=1e-3, rtol=1e-3)


def test_a_group_that_no_kernel_knows() -> None:
    with pytest.raises(ValueError, match="group 48 must be one of 32, 64, 128"):
        pack(torch.randn(4, 96), "int4", 48)
