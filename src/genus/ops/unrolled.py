"""LSTM and GRU over time with a backward pass written out: the matrix products are torch's, what is between them is C.

Of time T, batch B, hidden H, G gates. Time comes first inside, so that a step is one block of memory.

The gradients of the weights are one product over all steps. oneDNN's own backward pass in bf16 takes four to five times its
forward pass, where twice is what the products need.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genus.ops import native
from genus.ops.first_order import first_order


def kernels(cell: str) -> tuple[native.Kernel, native.Kernel] | None:
    """What a step does forward and backward, or None where it cannot be had."""
    name = f"genus_{cell.lower()}"
    forth = native.kernel("cells", name, "ppppnnnn")
    back = native.kernel("cells", f"{name}_back", "ppppppnnnn" if cell == "LSTM" else "pppppnnnn")
    return None if forth is None or back is None else (forth, back)


def _last(x: Tensor) -> tuple[int, int, bool, int]:
    """The last arguments of every kernel: rows, size, whether bf16, threads."""
    return x.shape[0], x.shape[1], x.dtype == torch.bfloat16, torch.get_num_threads()


def _weight_grad(grad_TBG: Tensor, x_TBD: Tensor) -> Tensor:
    """Over all steps, as that of the bias."""
    return grad_TBG.flatten(0, 1).T @ x_TBD.flatten(0, 1)


def _bias_grad(grad_TBG: Tensor) -> Tensor:
    rows = grad_TBG.flatten(0, 1)
    return (rows.new_ones(1, len(rows)) @ rows)[0]


class LSTM(torch.autograd.Function):
    """x (T, B, D), weights as `recurrent` has them, h and c (B, H) -> y (T, B, H), the last h and c."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor, c: Tensor) -> Any:
        found = kernels("LSTM")
        assert found is not None
        gates = torch.addmm(b_ih + b_hh, x.flatten(0, 1), w_ih.T).unflatten(0, x.shape[:2])
        hs, cs = h.new_empty(len(x) + 1, *h.shape), c.new_empty(len(x) + 1, *c.shape, dtype=torch.float32)
        hs[0], cs[0] = h, c
        turned, last = w_hh.T.contiguous(), _last(h)
        for gate, h0, h1, c0, c1 in zip(gates, hs, hs[1:], cs, cs[1:], strict=False):
            gate.addmm_(h0, turned)
            found[0](gate.data_ptr(), c0.data_ptr(), c1.data_ptr(), h1.data_ptr(), *last)
        ctx.save_for_backward(x, w_ih, w_hh, gates, hs, cs)
        return hs[1:].clone(), hs[-1].clone(), cs[-1].to(c.dtype)

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, w_ih, w_hh, gates, hs, cs = ctx.saved_tensors
        found = kernels("LSTM")
        assert found is not None
        grad, h_grad, c_grad = gates.clone(), grads[1].contiguous(), grads[2].float().contiguous().clone()
        y_grad, last = grads[0].contiguous(), _last(h_grad)
        for t in reversed(range(len(x))):
            found[1](*(a.data_ptr() for a in (grad[t], cs[t], cs[t + 1], y_grad[t], h_grad, c_grad)), *last)
            h_grad = grad[t] @ w_hh
        of_ih, of_hh, of_bias = _weight_grad(grad, x), _weight_grad(grad, hs[:-1]), _bias_grad(grad)
        return grad @ w_ih, of_ih, of_hh, of_bias, of_bias, h_grad, c_grad.to(grads[2].dtype)


class GRU(torch.autograd.Function):
    """x (T, B, D), weights as `recurrent` has them, h (B, H) -> y (T, B, H), the last h."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor, h: Tensor) -> Any:
        found = kernels("GRU")
        assert found is not None
        gates = torch.addmm(b_ih, x.flatten(0, 1), w_ih.T).unflatten(0, x.shape[:2])
        said, hs = torch.empty_like(gates), h.new_empty(len(x) + 1, *h.shape)
        hs[0] = h
        turned, last = w_hh.T.contiguous(), _last(h)
        for gate, say, h0, h1 in zip(gates, said, hs, hs[1:], strict=False):
            torch.addmm(b_hh, h0, turned, out=say)
            found[0](gate.data_ptr(), say.data_ptr(), h0.data_ptr(), h1.data_ptr(), *last)
        ctx.save_for_backward(x, w_ih, w_hh, gates, said, hs)
        return hs[1:].clone(), hs[-1].clone()

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, w_ih, w_hh, gates, said, hs = ctx.saved_tensors
        found = kernels("GRU")
        assert found is not None
        of_given, of_said = gates.clone(), said.clone()
        y_grad, h_grad = grads[0].contiguous(), grads[1].contiguous().clone()
        last = _last(h_grad)
        for t in reversed(range(len(x))):
            found[1](*(a.data_ptr() for a in (of_given[t], of_said[t], hs[t], y_grad[t], h_grad)), *last)
            h_grad.addmm_(of_said[t], w_hh)
        of_ih, of_hh = _weight_grad(of_given, x), _weight_grad(of_said, hs[:-1])
        return of_given @ w_ih, of_ih, of_hh, _bias_grad(of_given), _bias_grad(of_said), h_grad
