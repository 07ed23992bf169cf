"""One layer of a recurrent network over time: Elman's RNN (1990), LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al. 2014)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from genus.ops import native
from genus.ops.dispatch import Op
from genus.ops.linear import linear
from genus.ops.packed import Packed
from genus.ops.unrolled import GRU, LSTM, kernels

Weight = Tensor | Packed
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3, "Cho": 3}
LARGE = 400  # hidden units from which on oneDNN's LSTM is the slower one: its recurrent matrix leaves the second-level cache


@Op
def recurrent(cell: str, x: Tensor, weights: Sequence[Weight], state: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run `cell` along time.

    Args:
        cell: "RNN" (tanh), "LSTM" (gates i, f, g, o) or "GRU" (gates r, z, n), in PyTorch's conventions; "Cho", the GRU as it was
            published (Cho et al. 2014, eq. 8): the reset gate acts on the state before the matrix product, not after it.
        x: (batch, time, dim). weights: w_ih (gates * hidden, dim), w_hh (gates * hidden, outputs), b_ih, b_hh; for an LSTM whose
            outputs are projected also w_hr (outputs, hidden). The matrices of any cell but "Cho" may be packed.
        state: h (batch, outputs), and for the LSTM also c (batch, hidden).

    Returns:
        outputs (batch, time, outputs) and the state after the last step.
    """
    w_ih, w_hh, b_ih, b_hh, *projection = (w if isinstance(w, Packed) else w.to(x.dtype) for w in weights)
    assert isinstance(b_ih, Tensor) and isinstance(b_hh, Tensor)
    h, *rest = (s.to(x.dtype) for s in state)
    outputs = []
    for x_t in linear(x, w_ih, b_ih).unbind(1):
        if cell == "Cho":
            assert isinstance(w_hh, Tensor)
            h = reset_first(x_t, h, w_hh, b_hh)
            outputs.append(h)
            continue
        r_t = linear(h, w_hh, b_hh)
        if cell == "RNN":
            h = (x_t + r_t).tanh()
        elif cell == "LSTM":
            i, f, g, o = (x_t + r_t).chunk(4, dim=-1)
            rest = [f.sigmoid() * rest[0] + i.sigmoid() * g.tanh()]
            h = o.sigmoid() * rest[0].tanh()
            h = linear(h, projection[0]) if projection else h
        else:
            (x_r, x_z, x_n), (h_r, h_z, h_n) = x_t.chunk(3, dim=-1), r_t.chunk(3, dim=-1)
            z = (x_z + h_z).sigmoid()
            h = (1 - z) * (x_n + (x_r + h_r).sigmoid() * h_n).tanh() + z * h
        outputs.append(h)
    return torch.stack(outputs, dim=1), (h, *rest)


def reset_first(x: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor) -> Tensor:
    """One step of the GRU of Cho et al. (2014, eq. 5 to 8).

    Args:
        x: (batch, 3 * hidden), what the input says to r, z and n. h: (batch, hidden). w_hh, b_hh: of the three, in that order.
    """
    size = h.shape[1]
    r, z = torch.addmm(x[:, : 2 * size] + b_hh[: 2 * size], h, w_hh[: 2 * size].T).sigmoid().chunk(2, dim=-1)
    n = torch.addmm(x[:, 2 * size :] + b_hh[2 * size :], r * h, w_hh[2 * size :].T).tanh()
    return torch.lerp(n, h, z)


def _learns_in_bf16(cell: str, x: Tensor, weights: Sequence[Weight], state: Sequence[Tensor]) -> bool:
    if x.dtype != torch.bfloat16 or not native.computes(x) or not x.numel() or len(weights) > 4:
        return False
    if not (cell == "GRU" or (cell == "LSTM" and state[0].shape[-1] >= LARGE)):
        return False
    if not torch.is_grad_enabled() or any(isinstance(w, Packed) for w in weights):
        return False
    return any(t.requires_grad for t in (x, *weights, *state) if isinstance(t, Tensor)) and kernels(cell) is not None


@recurrent.path("unrolled", when=_learns_in_bf16)
def _recurrent_unrolled(
    cell: str, x: Tensor, weights: Sequence[Weight], state: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The backward pass of `ops.unrolled`."""
    params = [w.to(x.dtype) for w in weights if isinstance(w, Tensor)]
    y, *end = (LSTM if cell == "LSTM" else GRU).apply(x.transpose(0, 1).contiguous(), *params, *(s.to(x.dtype) for s in state))
    return y.transpose(0, 1), tuple(end)


def _in_the_library(cell: str, x: Tensor, weights: Sequence[Weight], state: Sequence[Tensor]) -> bool:
    if cell == "Cho" or any(isinstance(w, Packed) for w in weights):
        return False
    return len(weights) == 4 or state[0].shape[-1] != state[-1].shape[-1]  # it knows a projection by its width alone


@recurrent.path("torch", when=_in_the_library)
def _recurrent_torch(
    cell: str, x: Tensor, weights: Sequence[Weight], state: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The library's fused sequence kernels (oneDNN on the CPU, cuDNN on the GPU)."""
    params = [w.to(x.dtype) for w in weights if isinstance(w, Tensor)]
    hx = [s.to(x.dtype).contiguous().unsqueeze(0) for s in state]  # cuDNN takes no other
    options = (True, 1, 0.0, torch.is_grad_enabled(), False, True)  # biases, layers, dropout, train, bidirectional, batch_first
    if cell == "LSTM":
        with _unwarned() if len(params) > 4 else nullcontext():
            y, h, c = torch.lstm(x, hx, params, *options)
        return y, (h[0], c[0])
    y, h = (torch.gru if cell == "GRU" else torch.rnn_tanh)(x, hx[0], params, *options)
    return y, (h[0],)


@contextmanager
def _unwarned() -> Iterator[None]:
    """oneDNN has no projections, and torch says so before it goes its own way."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LSTM with projections")
        yield


CELLS = ("RNN", "LSTM", "GRU")  # as in ops/cpu/steps.c


def _kernel() -> native.Kernel | None:
    return native.kernel("steps", "genus_cell", "npnppnnnpp")


def _stored(cell: str, x: Tensor, weights: Sequence[Weight], state: Sequence[Tensor]) -> bool:
    if cell not in CELLS or len(weights) != 4 or not all(isinstance(w, Packed) for w in weights[:2]):
        return False
    same = all(s.dtype == x.dtype and s.is_contiguous() for s in state)
    return same and native.reads(x, *state, *(b for b in weights if isinstance(b, Tensor))) and _kernel() is not None


@recurrent.path("native", when=_stored)
def _recurrent_native(
    cell: str, x: Tensor, weights: Sequence[Weight], state: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Matrices that are stored for decoding, and what is done between their products in C (`ops/cpu/steps.c`)."""
    w_ih, w_hh, b_ih, b_hh = weights
    assert isinstance(b_ih, Tensor) and isinstance(b_hh, Tensor)
    h, *rest = state
    function, outputs, hidden = _kernel(), [], h.shape[1]
    assert function is not None
    for x_t in linear(x, w_ih, b_ih).unbind(1):
        r_t, old, new = linear(h, w_hh, b_hh), (rest or [h])[0], torch.empty_like(h)
        cells = [torch.empty_like(c) for c in rest]
        function(
            CELLS.index(cell),
            x_t.data_ptr(),
            x_t.stride(0),
            r_t.data_ptr(),
            old.data_ptr(),
            x.dtype == torch.bfloat16,
            len(x),
            hidden,
            new.data_ptr(),
            cells[0].data_ptr() if cells else None,
            held=(x_t, r_t, old, new, *cells),
        )
        h, rest = new, cells
        outputs.append(h)
    return torch.stack(outputs, dim=1), (h, *rest)
