"""The Transformer of 2017 and what was done to its residual stream; T5."""

from __future__ import annotations

from typing import Any

from genus.objectives.mixture import Mixture
from genus.objectives.seq2seq import Seq2Seq
from genus.objectives.spans import Spans
from genus.parts.attention import Attention, Score
from genus.parts.block import Block, Stack
from genus.parts.embedding import Embedding
from genus.parts.head import Head
from genus.parts.init import Init
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.norm import LayerNorm, RMSNorm
from genus.parts.positions import RelativeBias, Sinusoidal
from genus.parts.wiring import PostNorm, PreNorm, ResiDual, Wiring
from genus.recipes.recipe import Recipe, system
from genus.recipes.training import AdamW, InverseSqrt, Training


def vaswani(
    dim: int,
    depth: int,
    heads: int,
    vocab: int,
    context: int,
    dropout: float,
    wiring: Wiring,
    both: bool,
) -> Recipe:
    """The Transformer with any wiring of its residual stream; `both`: an encoder too, and trained on pairs."""
    attention = Attention(heads, bias=True)
    mlp = MLP(4.0, "relu", bias=True)
    final = None if isinstance(wiring, PostNorm) else LayerNorm()
    parts = (attention, attention.replace(cross=True), mlp) if both else (attention, mlp)
    block = Block(parts, LayerNorm(), wiring, dropout)
    encoder = block.replace(parts=(attention.replace(causal=False), mlp))
    model = Model(
        dim,
        Embedding(vocab, Sinusoidal(), scale=dim**0.5, dropout=dropout),
        Stack((block,), depth, final),
        Stack((encoder,), depth, final) if both else None,
        init=Init("normal", dim**-0.5, residual=False) if isinstance(wiring, PostNorm) else Init(),
    )
    if both:
        peak = (dim * 4000) ** -0.5  # section 5.3, eq. 3 at its highest
        training = Training(AdamW(peak, weight_decay=0.0, beta2=0.98, eps=1e-9), InverseSqrt(), context)
        return Recipe(model=model, objective=Seq2Seq(label_smoothing=0.1), training=training)
    return Recipe(model=model, training=Training(AdamW(beta2=0.98, weight_decay=0.0), context=context))


@system(
    branch="encoder-decoder",
    title="Attention Is All You Need",
    year=2017,
    citation="Vaswani, Shazeer, Parmar et al. NeurIPS 2017",
    summary="Transformer: attention alone, post-norm, sinusoidal positions",
    summary_zh="Transformer：只用注意力，后置归一化，正弦位置编码",
)
def transformer(
    dim: int = 512,
    depth: int = 6,
    heads: int = 8,
    vocab: int = 37000,
    context: int = 256,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    return vaswani(dim, depth, heads, vocab, context, dropout, PostNorm(), both=True)


@system(
    branch="decoder",
    title="Attention Is All You Need (decoder alone)",
    year=2017,
    citation="Vaswani et al. NeurIPS 2017; Liu et al. Generating Wikipedia by summarizing long sequences, ICLR 2018",
    summary="Transformer decoder with post-norm",
    summary_zh="后置归一化的 Transformer 解码器",
    parent="transformer",
)
def transformer_post_norm(
    dim: int = 512,
    depth: int = 6,
    heads: int = 8,
    vocab: int = 37000,
    context: int = 256,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    return vaswani(dim, depth, heads, vocab, context, dropout, PostNorm(), both=False)


@system(
    branch="decoder",
    title="On Layer Normalization in the Transformer Architecture",
    year=2020,
    citation="Xiong, Yang, He et al. ICML 2020",
    summary="Transformer decoder with pre-norm",
    summary_zh="前置归一化的 Transformer 解码器",
    parent="transformer-post-norm",
)
def transformer_pre_norm(
    dim: int = 512,
    depth: int = 6,
    heads: int = 8,
    vocab: int = 37000,
    context: int = 256,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    return vaswani(dim, depth, heads, vocab, context, dropout, PreNorm(), both=False)


@system(
    branch="decoder",
    title="ResiDual: Transformer with Dual Residual Connections",
    year=2023,
    citation="Xie, Zhang, Guo et al. arXiv:2304.14802",
    summary="Transformer decoder with a post-norm and an unnormalised stream side by side",
    summary_zh="同时保留后置归一化流与未归一化流的 Transformer 解码器",
    parent="transformer-post-norm",
)
def transformer_residual(
    dim: int = 512,
    depth: int = 6,
    heads: int = 8,
    vocab: int = 37000,
    context: int = 256,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    return vaswani(dim, depth, heads, vocab, context, dropout, ResiDual(), both=False)


@system(
    branch="encoder-decoder",
    title="Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
    year=2020,
    citation="Raffel, Shazeer, Roberts et al. JMLR 21, 2020",
    summary="T5: pre-norm without biases, one relative position bias per stack; learns by span corruption",
    summary_zh="T5：前置归一化、无偏置，每个栈共享一套相对位置偏置；以片段破坏为训练目标",
    parent="transformer",
    hf="t5",
)
def t5(
    dim: int = 512,
    depth: int = 6,
    heads: int = 8,
    vocab: int = 32128,
    context: int = 512,
    dropout: float = 0.0,
    head_dim: int | None = None,
    hidden: int | None = None,
    encoder_depth: int | None = None,
    buckets: int = 32,
    max_distance: int = 128,
    eps: float = 1e-6,
    gated: bool = False,
    act: str | None = None,
    tied: bool = True,
) -> Recipe:
    """`act`: None = relu, and gelu_tanh for a gate."""
    norm = RMSNorm(eps)
    position = RelativeBias(buckets, max_distance)
    attention = Attention(
        heads,
        head_dim=head_dim,
        position=position,
        score=Score(scale=1.0),
        dropout=dropout,
    )
    mlp = MLP(hidden or 4 * dim, act or ("gelu_tanh" if gated else "relu"), gated)
    decoder = Block(
        (attention, attention.replace(cross=True, position=None), mlp),
        norm,
        dropout=dropout,
    )
    encoder = Block((attention.replace(causal=False), mlp), norm, dropout=dropout)
    model = Model(
        dim,
        Embedding(vocab, dropout=dropout),
        Stack((decoder,), depth, norm),
        Stack((encoder,), encoder_depth or depth, norm),
        Head(tied, scale=dim**-0.5 if tied else 1.0),
    )
    return Recipe(model=model, objective=Spans(), training=Training(context=context))


@system(
    branch="encoder-decoder",
    title="GLU Variants Improve Transformer",
    year=2020,
    citation="Shazeer. arXiv:2002.05202; Raffel et al. JMLR 21, 2020 (the checkpoints of T5 v1.1)",
    summary="T5 v1.1: T5 with a gate in the feed-forward layer and a read-out of its own",
    summary_zh="T5 v1.1：前馈层带门控、输出矩阵不与词表共享的 T5",
    parent="t5",
    hf="t5",
)
def t5_v1_1(
    dim: int = 512,
    depth: int = 8,
    hidden: int | None = None,
    gated: bool = True,
    tied: bool = False,
    **sizes: Any,
) -> Recipe:
    """The gate has 8/3 of the width, so that the layer has the parameters of T5's, as in the base model."""
    return t5(dim, depth, hidden=hidden or max(64, round(dim / 24) * 64), gated=gated, tied=tied, **sizes)


@system(
    branch="encoder-decoder",
    title="UL2: Unifying Language Learning Paradigms",
    year=2023,
    citation="Tay, Dehghani, Tran et al. ICLR 2023",
    summary="UL2: T5 v1.1 with a SiLU gate that learns by a mixture of denoisers",
    summary_zh="UL2：以混合去噪为训练目标、采用 SiLU 门控的 T5 v1.1",
    parent="t5-v1-1",
    hf="t5",
)
def ul2(act: str = "silu", **sizes: Any) -> Recipe:
    return t5_v1_1(act=act, **sizes).replace(objective=Mixture())
