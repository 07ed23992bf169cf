"""Encoders: every position sees the whole sequence."""

from __future__ import annotations

from typing import Any

from genus.objectives.masked import Masked
from genus.objectives.next_sentence import NextSentence, SentenceOrder
from genus.parts.attention import Attention
from genus.parts.block import Block, Stack
from genus.parts.embedding import Embedding
from genus.parts.head import Head, Transform
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.norm import LayerNorm
from genus.parts.positions import LearnedPositions
from genus.parts.task_head import Pool, TaskHead
from genus.parts.wiring import PostNorm
from genus.recipes.recipe import Recipe, system
from genus.recipes.training import AdamW, Training


@system(
    branch="encoder",
    title="BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
    year=2019,
    citation="Devlin, Chang, Lee, Toutanova. NAACL 2019",
    summary="BERT: a post-norm encoder that fills in masked tokens and says whether two texts belong together",
    summary_zh="BERT：后置归一化编码器，学习填补被遮盖的词元并判断两段文字是否相连",
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
    sentences: bool = True,
) -> Recipe:
    """`sentences=False` leaves out next-sentence prediction and its read-out."""
    norm = LayerNorm(eps)
    attention = Attention(heads, causal=False, bias=True, dropout=dropout)
    block = Block((attention, MLP(hidden or 4 * dim, act, bias=True)), norm, PostNorm(), dropout)
    model = Model(
        dim,
        Embedding(vocab, LearnedPositions(context), types, norm, dropout=dropout),
        Stack((block,), depth, final=None),
        head=Head(bias=True, transform=Transform(act, norm), task=TaskHead(2, Pool()) if sentences else None),
    )
    training = Training(AdamW(weight_decay=0.01, beta2=0.999, eps=1e-6), context=min(context, 512))
    return Recipe(model=model, objective=Masked(sentences=NextSentence() if sentences else None), training=training)


@system(
    branch="encoder",
    title="RoBERTa: A Robustly Optimized BERT Pretraining Approach",
    year=2019,
    citation="Liu, Ott, Goyal et al. arXiv:1907.11692",
    summary="RoBERTa: BERT without next-sentence prediction and segment types, masks drawn anew each time",
    summary_zh="RoBERTa：去掉下一句预测与片段类型、每次重新抽取遮盖位置的 BERT",
    parent="bert",
    hf="roberta",
)
def roberta(
    vocab: int = 50265,
    types: int = 1,
    eps: float = 1e-5,
    sentences: bool = False,
    pad: int | None = 1,
    **sizes: Any,
) -> Recipe:
    """Whole documents, several in a row (FULL-SENTENCES, section 4.2), which here do not see each other.

    Args:
        pad: id of the padding token. In Hugging Face's files the table of positions begins behind it, so such a model must never
            read this id as text. None = the table begins with the first position.
    """
    recipe = bert(vocab=vocab, types=types, eps=eps, sentences=sentences, **sizes)
    positions = recipe.model.embed.positions.replace(offset=0 if pad is None else pad + 1)
    model = recipe.model.replace(embed=recipe.model.embed.replace(positions=positions))
    optimizer = recipe.training.optimizer.replace(beta2=0.98)  # section 3.1
    return recipe.replace(model=model, training=recipe.training.replace(optimizer=optimizer))


@system(
    branch="encoder",
    title="ALBERT: A Lite BERT for Self-supervised Learning of Language Representations",
    year=2020,
    citation="Lan, Chen, Goodman, Gimpel, Sharma, Soricut. ICLR 2020",
    summary="ALBERT: BERT with one layer for all depths and a narrow token table; predicts the order of two texts",
    summary_zh="ALBERT：各层共享参数、词表降维的 BERT，并判断两段文字的先后",
    parent="bert",
    hf="albert",
)
def albert(
    dim: int = 768,
    vocab: int = 30000,
    act: str = "gelu_tanh",
    embedding: int = 128,
    **sizes: Any,
) -> Recipe:
    """`embedding`: width of the token table, and at most the model's. Left out: masks of up to three words (section 4.1)."""
    recipe = bert(dim, vocab=vocab, act=act, **sizes)
    model, width = recipe.model, min(embedding, dim)
    model = model.replace(
        embed=model.embed.replace(dim=width),
        stack=model.stack.replace(share=True),
        head=model.head.replace(transform=model.head.transform.replace(outputs=width)),
    )
    order = SentenceOrder() if recipe.objective.sentences else None
    return recipe.replace(model=model, objective=recipe.objective.replace(sentences=order))


@system(
    branch="encoder",
    title="DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter",
    year=2019,
    citation="Sanh, Debut, Chaumond, Wolf. arXiv:1910.01108",
    summary="DistilBERT's shape: half of BERT's layers, no segment types; trained here without a teacher",
    summary_zh="DistilBERT 的结构：层数为 BERT 的一半，无片段类型；此处训练不用教师模型",
    parent="bert",
    hf="distilbert",
)
def distilbert(depth: int = 6, types: int = 0, sentences: bool = False, **sizes: Any) -> Recipe:
    return bert(depth=depth, types=types, sentences=sentences, **sizes)
