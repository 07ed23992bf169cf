"""Decoders: GPT and its kin, each written as what changed since its ancestor."""

from __future__ import annotations

from typing import Any

from genus.parts.attention import Attention, Score
from genus.parts.block import Block, Stack
from genus.parts.embedding import Embedding
from genus.parts.head import Head
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.moe import MoE
from genus.parts.norm import LayerNorm, RMSNorm
from genus.parts.positions import Alibi, LearnedPositions, Rotary, RotaryScaling
from genus.parts.wiring import OutNorm, Parallel, PostNorm, PreNorm, Sandwich
from genus.recipes.recipe import Recipe, system
from genus.recipes.training import Training


def _decoder(
    block: Block | tuple[Block, ...],
    dim: int,
    depth: int,
    vocab: int,
    context: int,
    **model: Any,
) -> Recipe:
    """A decoder whose final norm is that of its blocks."""
    blocks = block if isinstance(block, tuple) else (block,)
    embed = model.pop("embed", Embedding(vocab))
    spec = Model(dim, embed, Stack(blocks, depth, blocks[0].norm), **model)
    return Recipe(model=spec, training=Training(context=context))


@system(
    branch="decoder",
    title="Improving Language Understanding by Generative Pre-Training",
    year=2018,
    citation="Radford, Narasimhan, Salimans, Sutskever. OpenAI 2018",
    summary="GPT-1: a post-norm decoder with learned positions and GELU",
    summary_zh="GPT-1：后置归一化解码器，可学习位置，GELU 激活",
    parent="transformer-post-norm",
    hf="openai-gpt",
)
def gpt1(
    dim: int = 768,
    depth: int = 12,
    heads: int = 12,
    vocab: int = 40478,
    context: int = 512,
    hidden: int | None = None,
    eps: float = 1e-5,
    dropout: float = 0.0,
) -> Recipe:
    recipe = gpt2(dim, depth, heads, vocab, context, hidden, eps, dropout)
    stack = recipe.model.stack
    block = stack.blocks[0].replace(wiring=PostNorm())
    return recipe.replace(model=recipe.model.replace(stack=stack.replace(blocks=(block,), final=None)))


@system(
    branch="decoder",
    title="Language Models are Unsupervised Multitask Learners",
    year=2019,
    citation="Radford, Wu, Child, Luan, Amodei, Sutskever. OpenAI 2019",
    summary="GPT-2: pre-norm, and a final norm",
    summary_zh="GPT-2：前置归一化，末尾再加一次归一化",
    parent="gpt1",
    hf="gpt2",
)
def gpt2(
    dim: int = 768,
    depth: int = 12,
    heads: int = 12,
    vocab: int = 50257,
    context: int = 1024,
    hidden: int | None = None,
    eps: float = 1e-5,
    dropout: float = 0.0,
) -> Recipe:
    attention = Attention(heads, bias=True, dropout=dropout)
    block = Block(
        (attention, MLP(hidden or 4 * dim, "gelu_tanh", bias=True)),
        LayerNorm(eps),
        PreNorm(),
        dropout,
    )
    embed = Embedding(vocab, LearnedPositions(context), dropout=dropout)
    return _decoder(block, dim, depth, vocab, context, embed=embed)


@system(
    branch="decoder",
    title="Language Models are Few-Shot Learners",
    year=2020,
    citation="Brown, Mann, Ryder et al. NeurIPS 2020; Child et al. arXiv:1904.10509",
    summary="GPT-3: GPT-2 with every second layer looking at a local window",
    summary_zh="GPT-3：在 GPT-2 上让每隔一层只看局部窗口",
    parent="gpt2",
)
def gpt3(
    dim: int = 768,
    depth: int = 12,
    heads: int = 12,
    vocab: int = 50257,
    context: int = 2048,
    window: int = 256,
    dropout: float = 0.0,
) -> Recipe:
    recipe = gpt2(dim, depth, heads, vocab, context, dropout=dropout)
    stack = recipe.model.stack
    dense = stack.blocks[0]
    attention, mlp = dense.parts
    local = dense.replace(parts=(attention.replace(window=window), mlp))
    return recipe.replace(model=recipe.model.replace(stack=stack.replace(blocks=(dense, local))))


@system(
    branch="decoder",
    title="GPT-NeoX-20B: An Open-Source Autoregressive Language Model",
    year=2022,
    citation="Black, Biderman, Hallahan et al. arXiv:2204.06745",
    summary="GPT-NeoX: attention and MLP in parallel, rotary positions on a quarter of each head",
    summary_zh="GPT-NeoX：注意力与 MLP 并行，旋转位置只作用于每个头的四分之一",
    parent="gpt3",
    hf="gpt_neox",
)
def gpt_neox(
    dim: int = 512,
    depth: int = 6,
    heads: int = 8,
    vocab: int = 50304,
    context: int = 2048,
    hidden: int | None = None,
    theta: float = 10000.0,
    share: float = 0.25,
    eps: float = 1e-5,
    act: str = "gelu",
    parallel: bool = True,
    tied: bool = False,
    dropout: float = 0.0,
) -> Recipe:
    attention = Attention(heads, bias=True, position=Rotary(theta, share), dropout=dropout)
    wiring = Parallel() if parallel else PreNorm()
    block = Block(
        (attention, MLP(hidden or 4 * dim, act, bias=True)),
        LayerNorm(eps),
        wiring,
        dropout,
    )
    return _decoder(block, dim, depth, vocab, context, head=Head(tied))


@system(
    branch="decoder",
    title="BLOOM: A 176B-Parameter Open-Access Multilingual Language Model",
    year=2022,
    citation="BigScience Workshop. arXiv:2211.05100; Press, Smith, Lewis. ICLR 2022 (ALiBi)",
    summary="BLOOM: linear position biases (ALiBi) and a norm after the embedding",
    summary_zh="BLOOM：线性位置偏置（ALiBi），词嵌入后加归一化",
    parent="gpt2",
    hf="bloom",
)
def bloom(
    dim: int = 1024,
    depth: int = 24,
    heads: int = 16,
    vocab: int = 250880,
    context: int = 2048,
    eps: float = 1e-5,
    dropout: float = 0.0,
) -> Recipe:
    attention = Attention(heads, bias=True, position=Alibi(), dropout=dropout)
    block = Block(
        (attention, MLP(4 * dim, "gelu_tanh", bias=True)),
        LayerNorm(eps),
        PreNorm(),
        dropout,
    )
    return _decoder(
        block,
        dim,
        depth,
        vocab,
        context,
        embed=Embedding(vocab, norm=LayerNorm(eps), dropout=dropout),
    )


@system(
    branch="decoder",
    title="LLaMA: Open and Efficient Foundation Language Models",
    year=2023,
    citation="Touvron, Lavril, Izacard et al. arXiv:2302.13971; LLaMA 2 arXiv:2307.09288; LLaMA 3 arXiv:2407.21783",
    summary="LLaMA: RMS norm, rotary positions, gated SiLU; kv_heads (2), scaling (3.1) by fields",
    summary_zh="LLaMA：RMS 归一化、旋转位置、SiLU 门控；kv_heads（2 代）与 scaling（3.1 代）为字段",
    parent="gpt3",
    hf="llama",
)
def llama(
    dim: int = 512,
    depth: int = 8,
    heads: int = 8,
    vocab: int = 32000,
    context: int = 2048,
    kv_heads: int | None = None,
    hidden: int | None = None,
    head_dim: int | None = None,
    theta: float = 10000.0,
    scaling: RotaryScaling | None = None,
    eps: float = 1e-6,
    tied: bool = False,
    bias: bool = False,
    dropout: float = 0.0,
) -> Recipe:
    """The inner width is 8/3 of the model's, rounded up to a multiple of 64 (the paper's rule at a smaller multiple)."""
    attention = Attention(
        heads,
        kv_heads,
        head_dim,
        bias=bias,
        position=Rotary(theta, scaling=scaling),
        dropout=dropout,
    )
    inner = hidden or -(-8 * dim // (3 * 64)) * 64
    block = Block((attention, MLP(inner, "silu", gated=True)), RMSNorm(eps), PreNorm(), dropout)
    return _decoder(block, dim, depth, vocab, context, head=Head(tied))


def _groups(heads: int, share: int) -> int:
    """Key-value heads: the largest number that divides `heads` and is at most heads / share."""
    return next(g for g in range(max(1, heads // share), 0, -1) if heads % g == 0)


def _llama_block(recipe: Recipe, **changes: Any) -> Recipe:
    """The same decoder with its one block changed: `attention`, `mlp` replace the sublayers, the rest fields of the block."""
    stack = recipe.model.stack
    block = stack.blocks[0]
    parts = (
        changes.pop("attention", block.parts[0]),
        changes.pop("mlp", block.parts[1]),
    )
    return recipe.replace(model=recipe.model.replace(stack=stack.replace(blocks=(block.replace(parts=parts, **changes),))))


@system(
    branch="decoder",
    title="Mistral 7B",
    year=2023,
    citation="Jiang, Sablayrolles, Mensch et al. arXiv:2310.06825",
    summary="Mistral: LLaMA with grouped queries and a sliding window",
    summary_zh="Mistral：在 LLaMA 上加分组查询与滑动窗口",
    parent="llama",
    hf="mistral",
)
def mistral(window: int | None = 4096, kv_heads: int | None = None, heads: int = 8, **sizes: Any) -> Recipe:
    recipe = llama(heads=heads, kv_heads=kv_heads or _groups(heads, 4), **sizes)
    return _llama_block(recipe, attention=recipe.model.stack.blocks[0].parts[0].replace(window=window))


@system(
    branch="decoder",
    title="Qwen3 Technical Report",
    year=2025,
    citation="Yang, Li, Yang et al. arXiv:2505.09388",
    summary="Qwen3: LLaMA with queries and keys normalised within each head",
    summary_zh="Qwen3：在 LLaMA 上对每个头的查询与键做归一化",
    parent="llama",
    hf="qwen3",
)
def qwen3(
    kv_heads: int | None = None,
    heads: int = 8,
    theta: float = 1e6,
    eps: float = 1e-6,
    **sizes: Any,
) -> Recipe:
    recipe = llama(
        heads=heads,
        kv_heads=kv_heads or _groups(heads, 2),
        theta=theta,
        eps=eps,
        **sizes,
    )
    return _llama_block(
        recipe,
        attention=recipe.model.stack.blocks[0].parts[0].replace(score=Score(norm=RMSNorm(eps))),
    )


@system(
    branch="decoder",
    title="2 OLMo 2 Furious",
    year=2025,
    citation="Walsh, Soldaini, Groeneveld et al. arXiv:2501.00656",
    summary="OLMo 2: LLaMA with norms on the sublayers' outputs and on whole queries and keys",
    summary_zh="OLMo 2：归一化放在子层输出上，并对整个查询与键归一化",
    parent="llama",
    hf="olmo2",
)
def olmo2(theta: float = 5e5, eps: float = 1e-6, **sizes: Any) -> Recipe:
    recipe = llama(theta=theta, eps=eps, **sizes)
    attention = recipe.model.stack.blocks[0].parts[0].replace(score=Score(norm=RMSNorm(eps), whole=True))
    return _llama_block(recipe, attention=attention, wiring=OutNorm())


@system(
    branch="decoder",
    title="Mixtral of Experts",
    year=2024,
    citation="Jiang, Sablayrolles, Roux et al. arXiv:2401.04088",
    summary="Mixtral: Mistral whose MLP is the best two of eight experts",
    summary_zh="Mixtral：把 Mistral 的 MLP 换成八个专家中最好的两个",
    parent="mistral",
    hf="mixtral",
)
def mixtral(
    experts: int = 8,
    top: int = 2,
    window: int | None = None,
    eps: float = 1e-5,
    **sizes: Any,
) -> Recipe:
    recipe = mistral(window=window, eps=eps, **sizes)
    return _llama_block(recipe, mlp=MoE(experts, top, recipe.model.stack.blocks[0].parts[1]))


@system(
    branch="decoder",
    title="Gemma 2: Improving Open Language Models at a Practical Size",
    year=2024,
    citation="Gemma Team, Google DeepMind. arXiv:2408.00118",
    summary="Gemma 2: local and global layers in turn, norms on both sides, capped scores and logits",
    summary_zh="Gemma 2：局部与全局层交替，子层前后都归一化，分数与输出做软上限",
    parent="llama",
    hf="gemma2",
)
def gemma2(
    dim: int = 512,
    depth: int = 8,
    heads: int = 8,
    vocab: int = 256000,
    context: int = 8192,
    kv_heads: int | None = None,
    hidden: int | None = None,
    head_dim: int | None = None,
    theta: float = 10000.0,
    window: int = 4096,
    query_scalar: float | None = None,
    caps: tuple[float | None, float | None] = (50.0, 30.0),
    eps: float = 1e-6,
    dropout: float = 0.0,
) -> Recipe:
    """`query_scalar`: the scores are divided by its square root (None = head_dim). `caps`: of the scores and of the logits."""
    head_dim = head_dim or dim // heads
    score = Score(scale=(query_scalar or head_dim) ** -0.5, softcap=caps[0])
    kv_heads = kv_heads or _groups(heads, 2)
    attention = Attention(heads, kv_heads, head_dim, position=Rotary(theta), score=score, dropout=dropout)
    mlp = MLP(hidden or 4 * dim, "gelu_tanh", gated=True)
    everywhere = Block((attention, mlp), RMSNorm(eps, plus_one=True), Sandwich(), dropout)
    local = everywhere.replace(parts=(attention.replace(window=window), mlp))
    embed = Embedding(vocab, scale=dim**0.5, dropout=dropout)
    return _decoder(
        (local, everywhere),
        dim,
        depth,
        vocab,
        context,
        embed=embed,
        head=Head(softcap=caps[1]),
    )
