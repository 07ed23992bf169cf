"""Fast weight programmers: attention without a softmax, each written as what changed since its ancestor; and hybrids."""

from __future__ import annotations

from typing import Any, cast

from genus.parts.attention import Attention
from genus.parts.block import Block
from genus.parts.conv import ShortConv
from genus.parts.fast_weights import Delta, FastWeights, FixedDecay, SelectiveDecay, Sum
from genus.parts.features import DPFP, EluPlusOne, Favor, Identity, UnitLength
from genus.parts.mlp import MLP
from genus.parts.norm import RMSNorm
from genus.parts.positions import Rotary
from genus.parts.wiring import PreNorm
from genus.recipes.decoders import llama, olmo2
from genus.recipes.recipe import Recipe, system
from genus.recipes.transformer import transformer_pre_norm


def _first(recipe: Recipe) -> Any:
    """The first block of the pattern."""
    model: Any = recipe.model
    return model.stack.blocks[0]


def _blocks(recipe: Recipe, *blocks: Block) -> Recipe:
    """The same model with other blocks."""
    model: Any = recipe.model
    return recipe.replace(model=model.replace(stack=model.stack.replace(blocks=blocks)))


def _mix(recipe: Recipe, mixer: FastWeights) -> Recipe:
    """The same model with `mixer` in the place of attention, and no positions: order is what a memory is written in."""
    block, model = _first(recipe), cast(Any, recipe.model)
    recipe = recipe.replace(model=model.replace(embed=model.embed.replace(positions=None, scale=1.0)))
    return _blocks(recipe, block.replace(parts=(mixer, *block.parts[1:])))


@system(
    branch="fast-weights",
    title="Learning to Control Fast-Weight Memories: An Alternative to Dynamic Recurrent Networks",
    year=1991,
    citation="Schmidhuber. Technical report FKI-147-91, TU München, 1991; Neural Computation 4(1), 1992",
    summary="FWP: a slow net writes outer products into fast weights, in blocks of today",
    summary_zh="FWP：慢网络把外积写进快权重（放在现代的残差块中）",
)
def fwp(dim: int = 512, depth: int = 6, heads: int = 1, vocab: int = 10000, context: int = 256, **_: int) -> Recipe:
    """The 1991 memory: what linear attention is without feature map and normalisation (Schlag et al. 2021, section 2)."""
    mixer = FastWeights(heads, feature=Identity(), rule=Sum(), normalise=False)
    return _mix(transformer_pre_norm(dim, depth, heads, vocab, context), mixer)


@system(
    branch="fast-weights",
    title="Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention",
    year=2020,
    citation="Katharopoulos, Vyas, Pappas, Fleuret. ICML 2020",
    summary="Linear transformer: the softmax becomes a dot product of elu(x) + 1",
    summary_zh="线性 Transformer：用 elu(x)+1 的点积代替 softmax",
    parent="transformer-pre-norm",
)
def linear_transformer(
    dim: int = 512, depth: int = 6, heads: int = 8, vocab: int = 37000, context: int = 256, dropout: float = 0.0, **_: int
) -> Recipe:
    recipe = transformer_pre_norm(dim, depth, heads, vocab, context, dropout)
    block = _first(recipe)
    return _blocks(recipe, block.replace(parts=(FastWeights(heads, feature=EluPlusOne()), *block.parts[1:])))


@system(
    branch="fast-weights",
    title="Rethinking Attention with Performers",
    year=2021,
    citation="Choromanski, Likhosherstov, Dohan et al. ICLR 2021",
    summary="Performer: random features whose dot products estimate the softmax (FAVOR+)",
    summary_zh="Performer：用随机特征的点积无偏估计 softmax（FAVOR+）",
    parent="linear-transformer",
)
def performer(
    dim: int = 512,
    depth: int = 6,
    heads: int = 8,
    vocab: int = 37000,
    context: int = 256,
    features: int | None = None,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    """`features`: per head; None = K ln K. They are drawn once, not anew during training."""
    recipe = linear_transformer(dim, depth, heads, vocab, context, dropout)
    block = _first(recipe)
    return _blocks(recipe, block.replace(parts=(FastWeights(heads, feature=Favor(features)), *block.parts[1:])))


@system(
    branch="fast-weights",
    title="Linear Transformers Are Secretly Fast Weight Programmers",
    year=2021,
    citation="Schlag, Irie, Schmidhuber. ICML 2021",
    summary="Delta rule: a write replaces what the key held; sparse DPFP features that sum to one",
    summary_zh="Delta 规则：写入会替换该键原有的内容；稀疏且和为一的 DPFP 特征",
    parent="linear-transformer",
)
def delta_fwp(
    dim: int = 512,
    depth: int = 6,
    heads: int = 8,
    vocab: int = 37000,
    context: int = 256,
    nu: int = 1,
    dropout: float = 0.0,
    **_: int,
) -> Recipe:
    """The variant without attention normalisation and without positions (section 6.3)."""
    mixer = FastWeights(heads, feature=DPFP(nu), rule=Delta(), normalise=False)
    return _mix(transformer_pre_norm(dim, depth, heads, vocab, context, dropout), mixer)


@system(
    branch="fast-weights",
    title="Retentive Network: A Successor to Transformer for Large Language Models",
    year=2023,
    citation="Sun, Dong, Huang et al. arXiv:2307.08621",
    summary="RetNet: each head forgets at its own fixed rate; rotated keys, gated and normalised outputs",
    summary_zh="RetNet：每个头以固定速率遗忘；键旋转，输出门控并归一化",
    parent="linear-transformer",
)
def retnet(
    dim: int = 512,
    depth: int = 6,
    heads: int = 4,
    vocab: int = 32000,
    context: int = 2048,
    eps: float = 1e-5,
    dropout: float = 0.0,
) -> Recipe:
    """Values and gate twice as wide as the model, a feed-forward layer only twice, so that the count stays 12 dim² a layer."""
    mixer = FastWeights(
        heads,
        value_dim=2.0,
        feature=Identity(),
        decay=FixedDecay(),
        normalise=False,
        out_norm=RMSNorm(eps),
        gate="silu",
        position=Rotary(),
    )
    recipe = llama(dim, depth, heads, vocab, context, eps=eps, dropout=dropout)
    block = _first(recipe).replace(parts=(mixer, MLP(2.0, "gelu")))
    return _blocks(recipe, block)


@system(
    branch="fast-weights",
    title="Parallelizing Linear Transformers with the Delta Rule over Sequence Length",
    year=2024,
    citation="Yang, Wang, Zhang, Shen, Kim. NeurIPS 2024",
    summary="DeltaNet: keys of length one after a short convolution, normalised outputs, parallel in time",
    summary_zh="DeltaNet：短卷积后键长归一，输出归一化，可沿时间并行训练",
    parent="delta-fwp",
)
def deltanet(
    dim: int = 512,
    depth: int = 8,
    heads: int = 4,
    vocab: int = 32000,
    context: int = 2048,
    conv: int = 4,
    eps: float = 1e-5,
    **sizes: Any,
) -> Recipe:
    """LLaMA's block with `heads` delta memories in the place of attention."""
    mixer = FastWeights(heads, feature=UnitLength(), rule=Delta(), normalise=False, out_norm=RMSNorm(eps), conv=ShortConv(conv))
    return _mix(llama(dim, depth, heads, vocab, context, eps=eps, **sizes), mixer)


@system(
    branch="fast-weights",
    title="Gated Delta Networks: Improving Mamba2 with Delta Rule",
    year=2025,
    citation="Yang, Kautz, Hatamizadeh. ICLR 2025",
    summary="Gated DeltaNet: DeltaNet that can also forget, at a rate that depends on the input; gated outputs",
    summary_zh="Gated DeltaNet：在 DeltaNet 上加入随输入变化的遗忘率与输出门",
    parent="deltanet",
)
def gated_deltanet(reach: float = 1.0, **sizes: Any) -> Recipe:
    """Keys 0.75 and values 1.5 times the model's width, so that a mixer has 6 dim² weights. `reach`: largest beta."""
    recipe = deltanet(**sizes)
    mixer = _first(recipe).parts[0]
    return _mix(recipe, mixer.replace(key_dim=0.75, value_dim=1.5, rule=Delta(reach), decay=SelectiveDecay(), gate="silu"))


@system(
    branch="hybrid",
    title="A Systematic Analysis of Hybrid Linear Attention",
    year=2025,
    citation="Wang, Zhu, Abreu et al. arXiv:2507.06457; Yang et al. NeurIPS 2024",
    summary="DeltaNet hybrid: three DeltaNet layers for each layer of full attention",
    summary_zh="DeltaNet 混合：每三层 DeltaNet 配一层全注意力",
    parent="deltanet",
    depths=(4, 96),
)
def deltanet_hybrid(ratio: int = 3, **sizes: Any) -> Recipe:
    """`ratio` DeltaNet layers, then one of LLaMA's. The heads of both are equally many."""
    recipe = deltanet(**sizes)
    attention = Attention(_first(recipe).parts[0].heads, position=Rotary())
    return _interleave(recipe, attention, ratio)


@system(
    branch="hybrid",
    title="Gated Delta Networks: Improving Mamba2 with Delta Rule (GatedDeltaNet-H1)",
    year=2025,
    citation="Yang, Kautz, Hatamizadeh. ICLR 2025",
    summary="Gated DeltaNet and attention over a sliding window in turn: no layer's memory grows with the text",
    summary_zh="Gated DeltaNet 与滑动窗口注意力交替：任何一层的记忆都不随文本增长",
    parent="gated-deltanet",
    depths=(2, 96),
)
def gated_deltanet_h1(window: int = 2048, **sizes: Any) -> Recipe:
    recipe = gated_deltanet(**sizes)
    attention = Attention(_first(recipe).parts[0].heads, window=window, position=Rotary())
    return _interleave(recipe, attention, 1)


def _interleave(recipe: Recipe, attention: Attention, ratio: int) -> Recipe:
    """`ratio` blocks as they are, then one with attention."""
    block = _first(recipe)
    return _blocks(recipe, *[block] * ratio, block.replace(parts=(attention, *block.parts[1:])))


@system(
    branch="hybrid",
    title="Olmo Hybrid: From Theory to Practice and Back",
    year=2026,
    citation="Merrill, Li, Romero et al. arXiv:2604.03444",
    summary="Olmo Hybrid: three gated delta layers that may also negate, then OLMo 2's attention without positions",
    summary_zh="Olmo Hybrid：三层允许负特征值的门控 Delta 层，接一层不带位置编码的 OLMo 2 注意力",
    parent="gated-deltanet",
    depths=(4, 96),
)
def olmo_hybrid(
    dim: int = 512,
    depth: int = 8,
    heads: int = 8,
    vocab: int = 100352,
    context: int = 2048,
    key_dim: int | None = None,
    value_dim: int | None = None,
    reach: float = 2.0,
    conv: int = 4,
    ratio: int = 3,
    eps: float = 1e-6,
    theta: float | None = None,
    **sizes: Any,
) -> Recipe:
    """`key_dim`, `value_dim`: width per head of the delta layers; None = 0.75 and 1.5 times the model's over all heads.

    `theta`: of rotary positions in the attention layers; None = no positions, as released.
    """
    recipe = olmo2(dim=dim, depth=depth, heads=heads, vocab=vocab, context=context, eps=eps, **sizes)
    full = _first(recipe)
    position = None if theta is None else Rotary(theta)
    full = full.replace(parts=(full.parts[0].replace(position=position), *full.parts[1:]))
    mixer = FastWeights(
        heads,
        key_dim or 0.75,
        value_dim or 1.5,
        UnitLength(),
        Delta(reach),
        SelectiveDecay(),
        normalise=False,
        out_norm=RMSNorm(1e-5),
        gate="silu",
        conv=ShortConv(conv),
    )
    linear = full.replace(parts=(mixer, *full.parts[1:]), wiring=PreNorm())
    return _blocks(recipe, *[linear] * ratio, full)
