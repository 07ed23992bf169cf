"""Before attention: the neural probabilistic language model and the recurrent networks."""

from __future__ import annotations

from typing import Literal

from genus.objectives.both_directions import BothDirections
from genus.parts.block import Block, Stack
from genus.parts.char_cnn import CharCNN
from genus.parts.embedding import Embedding
from genus.parts.head import Head
from genus.parts.init import Init
from genus.parts.mlp import Hidden
from genus.parts.model import Model
from genus.parts.recurrent import Recurrent
from genus.parts.window import Window
from genus.parts.wiring import Plain, PreNorm
from genus.recipes.recipe import Recipe, system
from genus.recipes.training import SGD, AdamW, EpochDecay, Training
from genus.spec import nearest


@system(
    branch="window",
    title="A Neural Probabilistic Language Model",
    year=2003,
    citation="Bengio, Ducharme, Vincent, Jauvin. JMLR 3, 2003",
    summary="NNLM: a hidden layer over the embeddings of the previous words",
    summary_zh="NNLM：对前几个词的词向量做一层隐藏层",
    heads_of=4,
    depths=(1, 1),
)
def nnlm(
    dim: int = 60,
    hidden: int | None = None,
    vocab: int = 17964,
    window: int = 4,
    context: int = 256,
    **_: int,
) -> Recipe:
    """Equation 1 with direct connections: y = b + W x + U tanh(d + H x)."""
    layer = Block(
        (Window(window), Hidden(hidden or 4 * dim, direct=True)),
        norm=None,
        wiring=Plain(),
    )
    model = Model(
        dim,
        Embedding(vocab),
        Stack((layer,), 1, final=None),
        head=Head(tied=False, bias=True),
    )
    return Recipe(
        model=model,
        training=Training(AdamW(lr=1e-3, weight_decay=1e-4), context=context),
    )


def _recurrent(
    cell: Literal["RNN", "LSTM", "GRU"], dim: int, depth: int, vocab: int, context: int, dropout: float = 0.0
) -> Recipe:
    layer = Block((Recurrent(cell),), norm=None, wiring=Plain(), dropout=dropout)
    model = Model(
        dim,
        Embedding(vocab, dropout=dropout),
        Stack((layer,), depth, final=None),
        head=Head(tied=True, bias=True),
        init=Init("fan_in", residual=False, forget=1.0),
    )
    return Recipe(
        model=model,
        training=Training(AdamW(lr=2e-3, weight_decay=0.01), context=context, batch=32, stream=True, restart=1 / 16),
    )


@system(
    branch="recurrent",
    title="Recurrent neural network based language model",
    year=2010,
    citation="Mikolov, Karafiát, Burget, Černocký, Khudanpur. Interspeech 2010; Elman. Cognitive Science 14, 1990",
    summary="RNN: a state fed back through tanh",
    summary_zh="RNN：把状态经 tanh 反馈回来",
    parent="nnlm",
    aspect=256.0,
    heads_of=8,
    depths=(1, 4),
)
def rnn(
    dim: int = 256,
    depth: int = 2,
    vocab: int = 10000,
    context: int = 64,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    return _recurrent("RNN", dim, depth, vocab, context, dropout)


@system(
    branch="recurrent",
    title="Recurrent Neural Network Regularization",
    year=2014,
    citation="Zaremba, Sutskever, Vinyals. arXiv:1409.2329; Hochreiter, Schmidhuber. Neural Computation 9, 1997",
    summary="LSTM: a gated memory cell, dropout on the non-recurrent connections",
    summary_zh="LSTM：带门控的记忆单元，只在非循环连接上做 dropout",
    parent="rnn",
    aspect=256.0,
    heads_of=8,
    depths=(1, 4),
)
def lstm(
    dim: int = 256,
    depth: int = 2,
    vocab: int = 10000,
    context: int = 64,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    return _recurrent("LSTM", dim, depth, vocab, context, dropout)


ZAREMBA = {  # width, steps, dropout, bound of the uniform start, clip, epochs before the rate falls, factor of each fall
    "small": (200, 20, 0.0, 0.1, 5.0, 4.0, 0.5),
    "medium": (650, 35, 0.5, 0.05, 5.0, 6.0, 1 / 1.2),
    "large": (1500, 35, 0.65, 0.04, 10.0, 14.0, 1 / 1.15),
}


@system(
    branch="recurrent",
    title="Recurrent Neural Network Regularization (the paper's own training)",
    year=2014,
    citation="Zaremba, Sutskever, Vinyals. arXiv:1409.2329, section 4.1",
    summary="LSTM exactly as published: SGD, state carried across batches, uniform start (small: 2 x 200 in rows of 20)",
    summary_zh="论文原版 LSTM：SGD、批次间传递状态、均匀初始化（小号：2×200，每行 20 步）",
    parent="lstm",
    aspect=100.0,
    heads_of=8,
    depths=(2, 2),
)
def zaremba(
    dim: int | None = None,
    depth: int = 2,
    vocab: int = 10000,
    context: int | None = None,
    size: str = "small",
    **_: int,
) -> Recipe:
    """Section 4.1: small (2 x 200, no dropout), medium (2 x 650, dropout 0.5) and large (2 x 1500, dropout 0.65).

    `dim` and `context` None = the published ones of that size.
    """
    if size not in ZAREMBA:
        raise ValueError(f"zaremba has no size {size!r}{nearest(size, ZAREMBA)}")
    published, steps, dropout, bound, clip, keep, factor = ZAREMBA[size]
    dim, context = dim or published, context or steps
    recipe = _recurrent("LSTM", dim, depth, vocab, context, dropout)
    model = recipe.model.replace(
        head=Head(tied=False, bias=True),
        init=Init("uniform", bound, residual=False, everything=True),
    )
    schedule = EpochDecay(keep=keep, factor=factor)
    training = Training(
        SGD(lr=1.0),
        schedule,
        context,
        batch=20,
        clip=clip,
        stream=True,
        sum_over_time=True,
    )
    return recipe.replace(model=model, training=training)


@system(
    branch="recurrent",
    title="Learning Phrase Representations using RNN Encoder-Decoder",
    year=2014,
    citation="Cho, van Merriënboer, Gulcehre et al. EMNLP 2014",
    summary="GRU: two gates and no separate cell",
    summary_zh="GRU：两个门，没有单独的记忆单元",
    parent="lstm",
    aspect=256.0,
    heads_of=8,
    depths=(1, 4),
)
def gru(
    dim: int = 256,
    depth: int = 2,
    vocab: int = 10000,
    context: int = 64,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    return _recurrent("GRU", dim, depth, vocab, context, dropout)


FILTERS = (1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)  # of width 1, 2 ... 7, in widths of the model (Peters et al.: of 512)


@system(
    branch="recurrent",
    title="Character-Aware Neural Language Models",
    year=2016,
    citation="Kim, Jernite, Sontag, Rush. AAAI 2016",
    summary="Character-aware LSTM: a token's vector comes from its bytes, through filters and highway layers",
    summary_zh="字符感知 LSTM：用卷积和高速公路层从字节得到词元向量",
    parent="lstm",
    aspect=256.0,
    heads_of=8,
    depths=(1, 4),
)
def char_lstm(
    dim: int = 256,
    depth: int = 2,
    vocab: int = 10000,
    context: int = 64,
    dropout: float = 0.0,
    highway: int = 1,
    **_: int,
) -> Recipe:
    """Table 2, small: 25 w filters of each width w up to 6 at 300 units, tanh, one highway layer; over bytes of subwords."""
    recipe = _recurrent("LSTM", dim, depth, vocab, context, dropout)
    filters = tuple(max(1, round(dim * w / 12)) for w in range(1, 7))
    embed = recipe.model.embed.replace(spelled=CharCNN(filters, highway=highway, act="tanh"))
    return recipe.replace(model=recipe.model.replace(embed=embed, head=Head(tied=False, bias=True)))


@system(
    branch="recurrent",
    title="Deep contextualized word representations",
    year=2018,
    citation="Peters, Neumann, Iyyer, Gardner, Clark, Lee, Zettlemoyer. NAACL 2018; Jozefowicz et al. arXiv:1602.02410",
    summary="ELMo: two directions of projected LSTMs, residual between layers; a task mixes all layers",
    summary_zh="ELMo：双向的投影 LSTM 语言模型，层间残差；下游任务混合各层",
    parent="lstm",
    aspect=256.0,
    heads_of=8,
    depths=(2, 4),
)
def elmo(
    dim: int = 512,
    depth: int = 2,
    vocab: int = 10000,
    context: int = 64,
    hidden: int | None = None,
    dropout: float = 0.1,
    spelled: bool = False,
    highway: int = 2,
    **_: int,
) -> Recipe:
    """Section 3.4: two layers of 4,096 units with projections to 512 and a residual connection from the first to the second.

    The directions share the tokens' vectors and the read-out, not the LSTMs. Left out: the clipping of cells and projections.

    Args:
        hidden: units of an LSTM; None = 8 x dim. spelled: tokens are read byte by byte (the paper's), not from a table.
    """
    lstm = Recurrent("LSTM", hidden or 8 * dim, projection=dim)
    first, later = (Block((lstm,), None, wiring, dropout) for wiring in (Plain(), PreNorm()))
    stack = Stack((first,) + (later,) * (depth - 1), depth, final=None)
    filters = tuple(max(1, round(dim * share)) for share in FILTERS)
    model = Model(
        dim,
        Embedding(vocab, dropout=dropout, spelled=CharCNN(filters, highway=highway) if spelled else None),
        stack,
        head=Head(tied=not spelled, bias=True),
        init=Init("fan_in", residual=False, forget=1.0),
        reverse=stack,
    )
    training = Training(AdamW(lr=2e-3, weight_decay=0.01), context=context, batch=32, stream=True, restart=1 / 16)
    return Recipe(model=model, objective=BothDirections(), training=training)
