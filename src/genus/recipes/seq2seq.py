"""From sequence to sequence: recurrent encoder-decoders, the search in the source, and what became of the Transformer's norms."""

from __future__ import annotations

from genus.objectives.seq2seq import Seq2Seq
from genus.parts.bidirectional import Bidirectional
from genus.parts.block import Block, Stack
from genus.parts.conditional import Conditional
from genus.parts.embedding import Embedding
from genus.parts.head import Head
from genus.parts.init import Init
from genus.parts.maxout import Maxout
from genus.parts.model import Model
from genus.parts.recurrent import Recurrent
from genus.parts.source_context import Additive, SourceContext, Summary
from genus.parts.wiring import Plain, PreNorm, ResiDual
from genus.recipes.recipe import Recipe, system
from genus.recipes.training import AdamW, Training
from genus.recipes.transformer import vaswani
from genus.spec import Spec


def _recurrent(dim: int, hidden: int, vocab: int, context: int, dropout: float, encoder: Spec, reader: SourceContext) -> Recipe:
    """Bahdanau et al. 2015, appendix A; one token table for both languages."""
    memory = encoder.width(dim)
    decoder = Block((Conditional(hidden, memory, reader), Maxout(max(1, hidden // 2))), None, Plain(), dropout)
    model = Model(
        dim,
        Embedding(vocab, dropout=dropout),
        Stack((decoder,), 1, final=None),
        Stack((Block((encoder,), None, Plain(), dropout),), 1, final=None),
        Head(tied=False, bias=True),
        Init("fan_in", residual=False),
    )
    training = Training(AdamW(1e-3, weight_decay=0.0, beta2=0.999), context=context, batch=80)
    return Recipe(model=model, objective=Seq2Seq(), training=training)


def _hidden(dim: int, hidden: int | None) -> int:
    """Width of the states: the papers' 1,000 for embeddings of 620, in proportion."""
    return hidden or max(2, round(dim * 1000 / 620))


@system(
    branch="encoder-decoder",
    title="Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation",
    year=2014,
    citation="Cho, van Merriënboer, Gulcehre et al. EMNLP 2014; Sutskever, Vinyals, Le. NeurIPS 2014",
    summary="RNN encoder-decoder: the whole source in one vector",
    summary_zh="RNN 编码器–解码器：整个源句压缩成一个向量",
    parent="gru",
    aspect=256.0,
    heads_of=8,
    depths=(1, 1),
)
def rnn_encoder_decoder(
    dim: int = 620,
    hidden: int | None = None,
    vocab: int = 30000,
    context: int = 50,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    """RNNencdec, as Bahdanau et al. (2015) compare theirs with: `rnnsearch` without the search, and one direction of reading."""
    size = _hidden(dim, hidden)
    return _recurrent(dim, size, vocab, context, dropout, Recurrent("Cho", size), Summary())


@system(
    branch="encoder-decoder",
    title="Neural Machine Translation by Jointly Learning to Align and Translate",
    year=2015,
    citation="Bahdanau, Cho, Bengio. ICLR 2015",
    summary="RNNsearch: additive attention, the decoder looks for what it needs in the source",
    summary_zh="RNNsearch：加性注意力，解码器在源句中查找所需信息",
    parent="rnn-encoder-decoder",
    aspect=256.0,
    heads_of=8,
    depths=(1, 1),
)
def rnnsearch(
    dim: int = 620,
    hidden: int | None = None,
    vocab: int = 30000,
    context: int = 50,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    """Appendix A: bidirectional encoder, s_0 from the backward one, alignment and maxout read-out of s_{i-1}, c_i and y_{i-1}."""
    size = _hidden(dim, hidden)
    return _recurrent(dim, size, vocab, context, dropout, Bidirectional(Recurrent("Cho", size)), Additive(size))


@system(
    branch="encoder-decoder",
    title="On Layer Normalization in the Transformer Architecture (encoder and decoder)",
    year=2020,
    citation="Xiong, Yang, He et al. ICML 2020",
    summary="Transformer with pre-norm: needs no warm-up",
    summary_zh="前置归一化的编码器–解码器 Transformer：不需要预热",
    parent="transformer",
)
def encoder_decoder_pre_norm(
    dim: int = 512,
    depth: int = 6,
    heads: int = 8,
    vocab: int = 37000,
    context: int = 256,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    return vaswani(dim, depth, heads, vocab, context, dropout, PreNorm(), both=True)


@system(
    branch="encoder-decoder",
    title="ResiDual: Transformer with Dual Residual Connections (encoder and decoder)",
    year=2023,
    citation="Xie, Zhang, Guo et al. arXiv:2304.14802",
    summary="Transformer with a post-norm and an unnormalised stream side by side",
    summary_zh="编码器–解码器 Transformer，同时保留后置归一化流与未归一化流",
    parent="transformer",
)
def encoder_decoder_residual(
    dim: int = 512,
    depth: int = 6,
    heads: int = 8,
    vocab: int = 37000,
    context: int = 256,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    return vaswani(dim, depth, heads, vocab, context, dropout, ResiDual(), both=True)
