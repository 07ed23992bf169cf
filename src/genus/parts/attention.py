"""Multi-head attention over the past, the whole sequence, or an encoder's output.

Shapes: B batch, T queries, S keys, H heads, G key-value heads, K head dimension, D model dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from genus.ops.attention import attention
from genus.ops.decode_attention import FEW, decode_attention, reads_spans
from genus.ops.document_attention import document_attention
from genus.ops.rotary import rotary
from genus.parts.ctx import Ctx, attention_mask
from genus.parts.linear import Linear, joined, linear_parameters
from genus.parts.norm import Norm
from genus.parts.positions import Alibi, Position, RelativeBias, Rotary
from genus.parts.ring import remember, ring_size
from genus.spec import Spec


@dataclass(frozen=True)
class Score(Spec):
    """How queries and keys become scores.

    Attributes:
        scale: factor on the dot product; None = 1 / sqrt(head_dim).
        softcap: c tanh(score / c) (Gemma 2).
        norm: normalisation of queries and keys; `whole`: over all heads at once (OLMo 2) instead of within each (Qwen 3).
    """

    scale: float | None = None
    softcap: float | None = None
    norm: Norm | None = None
    whole: bool = False


@dataclass(frozen=True)
class Attention(Spec):
    """Multi-head attention (Vaswani et al. 2017) with grouped queries (Ainslie et al. 2023) and local windows.

    Attributes:
        heads, kv_heads, head_dim: None = as many key-value heads as heads; None = dim / heads.
        causal: no position sees a later one. cross: keys and values come from the encoder's output.
        window: a position sees itself and the `window` - 1 before it.
        bias, out_bias: biases on q, k, v and on the output; out_bias None = like `bias`.
        position: Rotary, Alibi, RelativeBias or None. dropout: on the attention weights.
    """

    heads: int = 8
    kv_heads: int | None = None
    head_dim: int | None = None
    causal: bool = True
    cross: bool = False
    window: int | None = None
    bias: bool = False
    out_bias: bool | None = None
    position: Position | None = None
    score: Score = Score()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.heads < 1 or self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} key-value heads; kv_heads must divide heads")

    @property
    def plain(self) -> bool:
        """Whether a position sees all of its document, or all before it, by nothing but queries and keys."""
        return not (self.cross or self.window or isinstance(self.position, Alibi | RelativeBias))

    @property
    def ring(self) -> int | None:
        """Columns of the ring in which a state keeps keys and values; None = it keeps those of the whole text."""
        return None if self.window is None or self.cross else ring_size(self.window)

    def sizes(self, dim: int) -> tuple[int, int, int]:
        """Head dimension, width of the queries, width of the keys."""
        if self.head_dim is None and dim % self.heads:
            raise ValueError(f"width {dim} does not divide into {self.heads} heads; change dim or heads, or set head_dim")
        head = self.head_dim or dim // self.heads
        return head, head * self.heads, head * (self.kv_heads or self.heads)

    def parameters(self, dim: int) -> int:
        head, q, kv = self.sizes(dim)
        out_bias = self.bias if self.out_bias is None else self.out_bias
        count = linear_parameters(dim, q, self.bias) + 2 * linear_parameters(dim, kv, self.bias)
        count += linear_parameters(q, dim, out_bias)
        if self.score.norm is not None:
            widths = (q, kv) if self.score.whole else (head, head)
            count += sum(self.score.norm.parameters(w) for w in widths)
        return count

    def reach(self, length: int) -> float:
        """Keys that a position sees, on the average over `length` positions; of a source, all."""
        if self.cross:
            return length
        window = min(self.window or length, length)
        back = window - window * (window - 1) / (2 * length)
        return back if self.causal else 2 * back - 1

    def flops(self, dim: int, length: int) -> float:
        _, q, kv = self.sizes(dim)
        return 2 * (2 * dim * q + 2 * dim * kv) + self.mixing(dim, length)

    def mixing(self, dim: int, length: int) -> float:
        return 4 * self.sizes(dim)[1] * self.reach(length)

    class Module(nn.Module):
        def __init__(self, spec: Attention, dim: int) -> None:
            super().__init__()
            self.spec = spec
            self.head, q, kv = spec.sizes(dim)
            self.groups = spec.kv_heads or spec.heads
            self.q_proj, self.k_proj, self.v_proj = (Linear(dim, w, spec.bias) for w in (q, kv, kv))
            self.o_proj = Linear(q, dim, spec.bias if spec.out_bias is None else spec.out_bias)
            norm = spec.score.norm
            self.q_norm = norm.build(q if spec.score.whole else self.head) if norm else None
            self.k_norm = norm.build(kv if spec.score.whole else self.head) if norm else None
            self.scale = self.head**-0.5 if spec.score.scale is None else spec.score.scale

        # which dimension counts positions, of the text or of the source
        state_axes: ClassVar[dict[str, int]] = {"keys": 2, "values": 2}

        def init_state(self, batch: int, length: int, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
            """Room for the keys and values of `length` positions, or of a ring where that is less; the cross-attention keeps its
            encoder's instead."""
            if self.spec.cross:
                return {}
            shape = (batch, self.groups, min(length, self.spec.ring or length), self.head)
            return {name: torch.zeros(shape, dtype=dtype, device=device) for name in ("keys", "values")}

        def forward(self, x: Tensor, ctx: Ctx, state: dict[str, Tensor] | None = None) -> Tensor:
            spec, (batch, time, _) = self.spec, x.shape
            if spec.cross and state is not None:
                q, k, v = self.q_proj(x), state["keys"], state["values"]
            elif spec.cross and ctx.memory is not None:
                q, (k, v) = self.q_proj(x), self._keys(ctx.memory)
            else:
                q, k, v = joined(x, self.q_proj, self.k_proj, self.v_proj)
                k, v = self._as_keys(k, v)
            q = self._heads(q, spec.heads, self.q_norm)
            if isinstance(spec.position, Rotary):
                cos, sin = spec.position.tables(ctx, self.head, x.dtype)
                q, k = rotary(q, cos, sin), rotary(k, cos, sin)
            dropout = spec.dropout if self.training else 0.0
            few = state is not None and time <= FEW and spec.causal and not (spec.cross or ctx.key_doc is not None or dropout)
            whole = few and not isinstance(spec.position, Alibi | RelativeBias)
            whole = whole and reads_spans(k, ring=spec.window is not None)
            if state is not None and not spec.cross:
                few = few and (whole or spec.window is None)
                k, v = remember(k, v, ctx, state, spec.window, whole)
            documents = None if state is not None or not spec.plain else ctx.documents
            if documents is not None:
                y = document_attention(q, k, v, documents, spec.causal, self.scale, spec.score.softcap, dropout)
            elif few:
                spans = ctx.spans(batch, time, k.shape[2], spec.window, spec.ring)
                y = decode_attention(q, k, v, spans, self._bias(ctx, time, k.shape[2]), self.scale, spec.score.softcap)
            else:
                aligned = ctx if spec.ring is None else ctx.aligned
                if k.shape[2] == time and not spec.cross and aligned.span is None and aligned.ragged is None:
                    mask, causal, window, bias = self._in_place(aligned, time)
                else:
                    mask, causal, window, bias = self._mask(aligned, time, k.shape[2], q.dtype), False, None, None
                y = attention(q, k, v, mask, causal, self.scale, spec.score.softcap, dropout, window, bias)
            return self.o_proj(y.transpose(1, 2).reshape(batch, time, -1))  # type: ignore[no-any-return]

        def read_source(self, memory: Tensor, memory_doc: Tensor | None, state: dict[str, Tensor]) -> None:
            """Keep the keys and values of an encoder's output (B, S, D) in the state; only cross-attention does."""
            if self.spec.cross:
                state["keys"], state["values"] = self._keys(memory)

        def _keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self._as_keys(*joined(x, self.k_proj, self.v_proj))

        def _as_keys(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            return self._heads(k, self.groups, self.k_norm), self._heads(v, self.groups, None)

        def _heads(self, x: Tensor, heads: int, norm: nn.Module | None) -> Tensor:
            """(B, T, H K) to (B, H, T, K), normalised on the way."""
            if norm is not None and self.spec.score.whole:
                x = norm(x)
            x = x.view(*x.shape[:2], heads, self.head)
            if norm is not None and not self.spec.score.whole:
                x = norm(x)
            return x.transpose(1, 2)

        def _in_place(self, ctx: Ctx, time: int) -> tuple[Tensor | None, bool, int | None, Tensor | None]:
            """The mask where every key stands at its query, and beside it, since what they hide needs no work and what they add
            no table of pairs: whether no query may look ahead, its window, and the bias by distance."""
            spec = self.spec
            causal = spec.causal and time > 1
            window = spec.window if causal and spec.window is not None and spec.window < time else None
            mask = attention_mask(ctx, time, time, spec.causal, None if causal else spec.window)
            match spec.position:
                case Alibi() | RelativeBias() as position:
                    return mask, causal, window, position.by_distance(ctx, spec.heads, time, spec.causal)
            return mask, causal, window, None

        def _mask(self, ctx: Ctx, time: int, keys: int, dtype: torch.dtype) -> Tensor | None:
            """The mask, boolean or additive."""
            if self.spec.cross:
                return _memory_mask(ctx)
            mask, bias = attention_mask(ctx, time, keys, self.spec.causal, self.spec.window), self._bias(ctx, time, keys)
            if bias is None or mask is None:
                return mask if bias is None else bias
            return bias.masked_fill(~mask, torch.finfo(dtype).min)

        def _bias(self, ctx: Ctx, time: int, keys: int) -> Tensor | None:
            """What the distance between query and key adds to their score."""
            match self.spec.position:
                case Alibi() as position:
                    return position.bias(ctx, self.spec.heads, time, keys)
                case RelativeBias() as position:
                    return position.bias(ctx, time, keys, self.spec.causal)
            return None


def _memory_mask(ctx: Ctx) -> Tensor | None:
    """(B, 1, T, S): a query sees the source of its own document; padding is seen by nobody."""
    if ctx.memory_doc is None:
        return None
    source = ctx.memory_doc[:, None, None, :]
    if ctx.doc is None:
        return source >= 0
    see = source == ctx.doc[:, None, :, None]
    return see | ~see.any(-1, keepdim=True)  # a padding position looks everywhere: no row of the softmax is empty
