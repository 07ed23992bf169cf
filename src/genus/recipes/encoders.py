"""Encoders: every position sees the whole sequence."""

from __future__ import annotations

from genus.parts.attention import Attention
from genus.parts.block import Block, Stack
from genus.parts.embedding import Embedding
from genus.parts.head import Head, Transform
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.norm import LayerNorm
from genus.parts.positions import LearnedPositions
from genus.parts.wiring import PostNorm
from genus.recipes.recipe import Recipe, system
from genus.recipes.training import Training


@system(
    branch="encoder",
    title="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
    year=2019,
    citation="Devlin, Chang, Lee, Toutanova. NAACL 2019",
    summary="BERT: a post-norm encoder with segment types and a transform before the read-out",
    summary_zh="BERT：后置归一化编码器，带片段类型，输出前再加一层变换",
    parent="transformer",
    hf="bert",
)
def bert(
    dim: int = 768,
    depth: int = 12,
    heads: int = 12,
    vocab: int = 30522,
    context: int = 512,
    hidden: int | None = None,
    types: int = 2,
    act: str = "gelu",
    eps: float = 1e-12,
    dropout: float = 0.0,
) -> Recipe:
    norm = LayerNorm(eps)
    attention = Attention(heads, causal=False, bias=True, dropout=dropout)
    block = Block((attention, MLP(hidden or 4 * dim, act, bias=True)), norm, PostNorm(), dropout)
    model = Model(
        dim,
        Embedding(vocab, LearnedPositions(context), types, norm, dropout=dropout),
        Stack((block,), depth, final=None),
        head=Head(bias=True, transform=Transform(act, norm)),
    )
    return Recipe(model=model, training=Training(context=min(context, 512)))
