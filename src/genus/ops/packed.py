"""Matrices stored for decoding: bf16, int8 or int4, laid out as the kernel that will read them wants them.

`pack` chooses among the ways to store: `Tiles` for the kernel in C (`ops/cpu/linear.c`), `Int8Rows` and `TorchInt4` for torch's
own packed products, `Int4Rows` for devices that have neither. The op `linear` takes any of them in the place of a weight.

Shapes: N outputs, K inputs, T tiles of 64 outputs, P neighbouring inputs, G groups of inputs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from genus.ops import native
from genus.ops.rounding import to_int4, to_int8

GROUPS = (32, 64, 128)  # inputs that may share a scale in int4: what all kernels know
WIDTH, INPUTS = 64, 32  # outputs of a tile; inputs are filled up with zeros to a multiple
BITS = {"bf16": 16, "int8": 8, "int4": 4}


@dataclass(frozen=True, eq=False)
class Packed:
    """A matrix (outputs, inputs) for products, in a storage of its own.

    Attributes:
        shape: of the matrix. format: "bf16", "int8" or "int4".
    """

    shape: torch.Size
    format: str
    codes: Tensor

    dtype: ClassVar[torch.dtype] = torch.bfloat16  # what the numbers are a part of

    @property
    def device(self) -> torch.device:
        return self.codes.device

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return sum(t.numel() * t.element_size() for t in vars(self).values() if isinstance(t, Tensor))

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """(..., inputs): the rows of these numbers (...)."""
        raise NotImplementedError

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The whole matrix."""
        return self.rows(torch.arange(self.shape[0], device=self.device), dtype)


def pack(weight: Tensor, format: str, group: int = 32) -> Packed | Tensor:
    """A matrix (outputs, inputs) in the storage that is fastest here; a plain bf16 tensor where nothing is faster.

    Args:
        format: "bf16"; "int8", a scale for each output; "int4", a scale for each `group` of inputs.
    """
    if group not in GROUPS:
        raise ValueError(f"group {group} must be one of {', '.join(map(str, GROUPS))}")
    cpu = weight.device.type == "cpu"
    if cpu and kernel() is not None:
        return Tiles.pack(weight, format, group)
    if format == "bf16":
        return weight.to(torch.bfloat16)
    if format == "int8":
        return Int8Rows(weight.shape, "int8", *to_int8(weight))
    return TorchInt4.pack(weight, group) if cpu and TorchInt4.takes(weight) else Int4Rows.pack(weight, group)


@dataclass(frozen=True, eq=False)
class Tiles(Packed):
    """The layout of `ops/cpu/linear.c`, which says what it is good for.

    `codes`: bf16 (T, K / 2, 64, 2); int8 (T, K / 4, 64, 4), from 0 on, 128 being nothing; int4 (T, K / 4, 2, 16, 4), two to a
    byte, from 0 on, 8 being nothing.

    Attributes:
        scales: float32 (T * 64) in int8; bf16 (T, G, 64) in int4. group: inputs to a scale; 0 = no groups.
    """

    scales: Tensor | None = None
    group: int = 0

    @classmethod
    def pack(cls, weight: Tensor, format: str, group: int) -> Tiles:
        outputs, inputs = weight.shape
        filling = (0, -inputs % INPUTS, 0, -outputs % WIDTH)
        if format == "bf16":
            return cls(weight.shape, format, _tiled(F.pad(weight.to(torch.bfloat16), filling), 2))
        if format == "int8":
            codes, scales = to_int8(weight)
            unsigned = (codes.to(torch.int16) + 128).to(torch.uint8)
            return cls(weight.shape, format, _tiled(F.pad(unsigned, filling, value=128), 4), F.pad(scales, (0, filling[3])))
        codes, scales = to_int4(weight, group)
        vectors = _tiled(F.pad(codes, (0, 0, 0, filling[3]), value=8), 4).unflatten(2, (2, 2, 16))  # (T, quad, byte, half, 16, 4)
        scales = F.pad(scales, (0, 0, 0, filling[3]), value=1.0).unflatten(0, (-1, WIDTH)).mT.contiguous()
        return cls(weight.shape, format, vectors[:, :, :, 0] | vectors[:, :, :, 1] << 4, scales, group)

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        tile, place = ids // WIDTH, ids % WIDTH
        if self.format == "bf16":
            return self.codes[tile, :, place].flatten(-2)[..., : self.shape[1]].to(dtype)
        assert self.scales is not None
        if self.format == "int8":
            codes = self.codes[tile, :, place].flatten(-2)[..., : self.shape[1]].float() - 128
            return (codes * self.scales[ids, None]).to(dtype)
        byte = self.codes[tile, :, place // 32, place % 16]
        codes = ((byte >> (place // 16 % 2 * 4).to(torch.uint8)[..., None, None]) & 15).flatten(-2).float() - 8
        scaled = codes.unflatten(-1, (-1, self.group)) * self.scales[tile, :, place].float()[..., None]
        return scaled.flatten(-2)[..., : self.shape[1]].to(dtype)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (..., inputs) in bf16 or float32 to (..., outputs)."""
        return multiply_all(x, (self,), (bias,))[0]

    @cached_property
    def described(self) -> _Matrix:
        """What the kernel knows of it: addresses that hold as long as this object does."""
        scales = None if self.scales is None else self.scales.data_ptr()
        return _Matrix(BITS[self.format], self.shape[0], self.width, self.group, self.codes.data_ptr(), scales)

    @property
    def width(self) -> int:
        """Inputs of the matrix as it is stored."""
        return (2 if self.format == "bf16" else 4) * self.codes.shape[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "described"}  # a copy has addresses of its own


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("bits", ctypes.c_int),
        *((name, ctypes.c_int64) for name in ("outputs", "inputs", "group")),
        *((name, ctypes.c_void_p) for name in ("codes", "scales")),
    )


def multiply_all(x: Tensor, matrices: Sequence[Tiles], biases: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """x (..., inputs) in bf16 or float32 to (..., outputs) of every matrix, in one call; all are stored with the same width.

    Raises:
        ValueError: x has not as many inputs as a matrix.
    """
    x, inputs = x.contiguous(), x.shape[-1]
    for matrix in matrices:
        if matrix.shape[1] != inputs:
            raise ValueError(f"{inputs} numbers cannot be multiplied by a matrix of {matrix.shape[1]} inputs")
    ys = tuple(x.new_empty(*x.shape[:-1], matrix.shape[0]) for matrix in matrices)
    if not x.numel():
        return ys
    kept = [b if b is None or (b.dtype == torch.float32 and b.is_contiguous()) else b.float().contiguous() for b in biases]
    pointers = _pointers(len(ys))
    function = kernel()
    assert function is not None
    function(
        len(ys),
        pointers(*[ctypes.addressof(matrix.described) for matrix in matrices]),
        pointers(*[None if bias is None else bias.data_ptr() for bias in kept]),
        x.data_ptr(),
        x.dtype == torch.bfloat16,
        x.numel() // inputs,
        inputs,
        pointers(*[y.data_ptr() for y in ys]),
        torch.get_num_threads(),
        held=(x, matrices, kept, ys),
    )
    return ys


@cache
def _pointers(count: int) -> type[ctypes.Array[ctypes.c_void_p]]:
    return ctypes.c_void_p * count


def _tiled(matrix: Tensor, neighbours: int) -> Tensor:
    """(T * 64, P * neighbours) to (T, P, 64, neighbours)."""
    return matrix.unflatten(0, (-1, WIDTH)).unflatten(2, (-1, neighbours)).transpose(1, 2).contiguous()


def kernel() -> native.Kernel | None:
    """The kernel of `ops/cpu/linear.c`, or None where it cannot be had."""
    return native.kernel("linear", "genus_linears", "npppnnnpn")


@dataclass(frozen=True, eq=False)
class Int8Rows(Packed):
    """codes (N, K) int8, scales (N,) float32: what `torch._weight_int8pack_mm` reads."""

    scales: Tensor

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        return (self.codes[ids].float() * self.scales[ids, None]).to(dtype)

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (..., inputs) to (..., outputs)."""
        y = torch._weight_int8pack_mm(x.reshape(-1, x.shape[-1]), self.codes, self.scales.to(x.dtype))
        return _finished(y, x, bias)


@dataclass(frozen=True, eq=False)
class Int4Rows(Packed):
    """codes (N, G * group / 2), two to a byte, the first in the lower half; scales (N, G) bf16."""

    scales: Tensor

    @classmethod
    def pack(cls, weight: Tensor, group: int) -> Int4Rows:
        codes, scales = to_int4(weight, group)
        return cls(weight.shape, "int4", codes[:, ::2] | codes[:, 1::2] << 4, scales)

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        two = self.codes[ids]
        codes = torch.stack([two & 15, two >> 4], dim=-1).flatten(-2).float() - 8
        scales = self.scales[ids].float()[..., None]
        return (codes.unflatten(-1, (scales.shape[-2], -1)) * scales).flatten(-2)[..., : self.shape[1]].to(dtype)


@dataclass(frozen=True, eq=False)
class TorchInt4(Packed):
    """What `torch._weight_int4pack_mm_for_cpu` reads; scales (G, N, 2) float32 hold a scale and a zero point of 0 each."""

    scales: Tensor
    group: int

    @staticmethod
    def takes(weight: Tensor) -> bool:
        """Whether torch's kernel is made for this shape."""
        return weight.shape[0] % 16 == 0 and weight.shape[1] % 128 == 0

    @classmethod
    def pack(cls, weight: Tensor, group: int) -> TorchInt4:
        codes, scales = to_int4(weight, group)
        packed = torch._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
        both = torch.stack([scales.T.float(), torch.zeros_like(scales.T, dtype=torch.float32)], dim=-1)
        return cls(weight.shape, "int4", packed, both.contiguous(), group)

    def dense(self, dtype: torch.dtype) -> Tensor:
        """torch keeps the layout to itself: what the product with the identity matrix gives."""
        return self.multiply(torch.eye(self.shape[1]), None).T.to(dtype)

    def rows(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        return self.dense(dtype)[ids]

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (..., inputs) to (..., outputs)."""
        flat = x.reshape(-1, x.shape[-1])
        y = torch._weight_int4pack_mm_for_cpu(flat, self.codes, self.group, self.scales.to(x.dtype))
        return _finished(y, x, bias)


def _finished(y: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    y = y.view(*x.shape[:-1], y.shape[-1])
    return y if bias is None else y.add_(bias.to(y.dtype))
