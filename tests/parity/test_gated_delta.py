"""The gated delta rule, its mixer and a whole Olmo Hybrid give what transformers gives."""

import pytest
import torch

from genus import recipes
from genus.ops import native
from genus.ops.fast_weights import fast_weights
from genus.ops.features import unit_length

qwen3_next = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
olmo_hybrid = pytest.importorskip("transformers.models.olmo_hybrid")


@pytest.mark.parametrize("name", ["torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"])
@pytest.mark.parametrize("path", ["reference", "chunked", "native chunks"])
def test_op_is_the_peer_of_qwen3_next(name, path):
    if path == "native chunks" and native.library("chunks") is None:
        pytest.skip("no kernels in C here")
    """Theirs lays out (batch, time, heads, width), scales queries by 1 / sqrt(K) and takes the logarithm of the decay."""
    if path == "native chunks" and native.library("chunks") is None:
        pytest.skip("no kernels in C here")
    q, k = (torch.randn(2, 100, 3, 16) for _ in range(2))
    v, g, beta = torch.randn(2, 100, 3, 8), -torch.rand(2, 100, 3), torch.rand(2, 100, 3)
    start = torch.randn(2, 3, 16, 8)
    peer = getattr(qwen3_next, name)
    expected, last = peer(q, k, v, g, beta, initial_state=start, output_final_state=True, use_qk_l2norm_in_kernel=True)
    ours = fast_weights.reference if path == "reference" else fast_weights.paths[path][1]
    q, k, v, g, beta = (x.transpose(1, 2) for x in (q, k, v, g, beta))
    y, (matrix, _) = ours(unit_length(q) * 16**-0.5, unit_length(k), v, g, beta, (start, None))
    torch.testing.assert_close(y.transpose(1, 2), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(matrix, last, atol=1e-5, rtol=1e-4)


LINEAR = {
    "linear_attn.q_proj.weight": "parts.0.q_proj.weight",
    "linear_attn.k_proj.weight": "parts.0.k_proj.weight",
    "linear_attn.v_proj.weight": "parts.0.v_proj.weight",
    "linear_attn.o_proj.weight": "parts.0.o_proj.weight",
    "linear_attn.g_proj.weight": "parts.0.g_proj.weight",
    "linear_attn.a_proj.weight": "parts.0.decay.a_proj.weight",
    "linear_attn.A_log": "parts.0.decay.A_log",
    "linear_attn.dt_bias": "parts.0.decay.dt_bias",
    "linear_attn.b_proj.weight": "parts.0.rule.b_proj.weight",
    "linear_attn.conv1d.weight": "parts.0.conv.weight",
    "linear_attn.o_norm.weight": "parts.0.o_norm.weight",
    "input_layernorm.weight": "norms.0.weight",
    "post_attention_layernorm.weight": "norms.1.weight",
}
FULL = {f"self_attn.{n}.weight": f"parts.0.{n}.weight" for n in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")}
FULL |= {"post_attention_layernorm.weight": "norms.0.weight", "post_feedforward_layernorm.weight": "norms.1.weight"}
MLP = {f"mlp.{n}.weight": f"parts.1.{n}.weight" for n in ("gate_proj", "up_proj", "down_proj")}
ENDS = {
    "model.embed_tokens.weight": "embed.tokens.weight",
    "model.norm.weight": "stack.final.weight",
    "lm_head.weight": "head.weight",
}


@pytest.fixture(scope="module", params=[None, 500.0], ids=["no positions", "rotary"])
def pair(request):
    """Their model with random weights, and ours with the same."""
    config = olmo_hybrid.OlmoHybridConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        pad_token_id=None,
        eos_token_id=None,
        linear_dt_max=2.0,
    )
    config.rope_parameters = request.param and {"rope_type": "default", "rope_theta": request.param}
    theirs = olmo_hybrid.OlmoHybridForCausalLM(config).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    recipe = recipes.make("olmo-hybrid", dim=32, depth=4, heads=4, vocab=61, hidden=48, theta=request.param)
    ours = recipe.model.build(0).eval()
    weights = theirs.state_dict()
    renamed = {mine: weights.pop(name) for name, mine in ENDS.items()}
    for i in range(4):
        for name, mine in ((FULL if i == 3 else LINEAR) | MLP).items():
            renamed[f"stack.layers.{i}.{mine}"] = weights.pop(f"model.layers.{i}.{name}")
    assert not weights
    ours.load_state_dict(renamed, strict=True)
    return theirs, ours


def test_olmo_hybrid_logits(pair):
    theirs, ours = pair
    ids = torch.randint(61, (2, 90))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=2e-4, rtol=1e-3)


def test_olmo_hybrid_steps(pair):
    """A prefill and single steps with a state."""
    theirs, ours = pair
    ids = torch.randint(61, (2, 24))
    with torch.no_grad():
        state = ours.init_state(2, 24)
        parts = [ours(ids[:, :15], state=state)] + [ours(ids[:, t : t + 1], state=state) for t in range(15, 24)]
        torch.testing.assert_close(torch.cat(parts, dim=1), theirs(ids).logits, atol=2e-4, rtol=1e-3)


def test_every_weight_counts(pair):
    """The comparison can fail: each of our parameters moves the logits."""
    _, ours = pair
    ids = torch.randint(61, (2, 90))
    with torch.no_grad():
        before = ours(ids)
        for name, p in ours.named_parameters():
            kept = p.clone()
            p.add_(torch.randn_like(p) * 0.1)
            assert (ours(ids) - before).abs().max() > 1e-3, name
            p.copy_(kept)
