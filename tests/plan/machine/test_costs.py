"""Costs by arithmetic, held against what PyTorch counts and allocates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from genus import recipes
from genus.ops.dispatch import OPS, forced
from genus.parts.attention import Attention
from genus.parts.block import Block, Stack
from genus.parts.ctx import Ctx, attention_mask
from genus.parts.embedding import Embedding
from genus.parts.head import Head
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.moe import MoE
from genus.parts.positions import LearnedPositions
from genus.plan.branches import branch, names
from genus.plan.machine import costs
from genus.recipes.training import SGD
from genus.spec import walk

TRAINS = [n for n in names() if branch(n).kind == "descended" and branch(n).recipe == n]
VOCAB, TIME = 96, 20
SMALL = {"dim": 32, "depth": 4, "heads": 4, "vocab": VOCAB, "context": 32}
SEEN = dict.fromkeys(OPS, "reference") | {"short_conv": "convolution"}  # the paths whose every product the counter sees


def small(name: str, **changes: Any) -> recipes.Recipe:
    """The recipe with four layers 32 wide and, where it has one, a window of seven."""
    wanted = SMALL | changes
    takes = recipes.sizes.takes(recipes.get(name))
    wanted |= {"window": 7} if name in ("gpt3", "mistral", "gemma2", "gated-deltanet-h1") else {}
    return recipes.make(name, **{k: v for k, v in wanted.items() if k in takes})


def hidden_pairs(model: Model, time: int) -> float:
    """Operations that the reference spends on scores it masks: the counter sees them, the convention does not."""
    wasted = 0.0
    for layer in range(model.stack.depth):
        block = model.stack.blocks[layer % len(model.stack.blocks)]
        for part in block.parts:
            if isinstance(part, Attention):
                mask = attention_mask(Ctx(torch.arange(time)), time, time, part.causal, part.window)
                seen = time * (time + 1) // 2 if mask is None else int(mask.sum())
                wasted += 4 * part.sizes(model.dim)[1] * (time * time - seen)
    return wasted


@pytest.mark.parametrize("name", TRAINS)
def test_operations_are_those_of_a_real_forward_pass(name: str) -> None:
    """Exactly: every product of a forward pass, less the pairs that do not see each other."""
    spec = small(name).model
    model = spec.build().eval()
    with torch.no_grad(), forced(**SEEN), FlopCounterMode(display=False) as counter:
        model(torch.randint(0, VOCAB, (1, TIME)))
    assert counter.get_total_flops() - hidden_pairs(spec, TIME) == pytest.approx(TIME * spec.flops(0, TIME), rel=1e-9)


@pytest.mark.parametrize("name", ["nnlm", "gru", "gpt2", "gpt3", "llama", "gemma2", "mixtral", "deltanet", "retnet"])
def test_training_is_three_forward_passes(name: str) -> None:
    """Each product is met by two in the backward pass. A little less where a recurrence begins from nothing."""
    spec = small(name).model
    model = spec.build()
    ids = torch.randint(0, VOCAB, (1, TIME))
    with forced(**SEEN), FlopCounterMode(display=False) as forward:
        loss, _ = model.head.loss(model.hidden(ids), ids)
    with forced(**SEEN), FlopCounterMode(display=False) as backward:
        loss.backward()
    assert backward.get_total_flops() == pytest.approx(costs.BACKWARD * forward.get_total_flops(), rel=0.04)


@pytest.mark.parametrize(("causal", "window"), [(True, None), (True, 5), (True, 50), (False, None), (False, 5), (False, 50)])
def test_reach_is_the_mean_of_the_mask(causal: bool, window: int | None) -> None:
    for time in (1, 4, 23):
        mask = attention_mask(
            Ctx(torch.arange(time), torch.zeros(1, time), key_doc=torch.zeros(1, time)), time, time, causal, window
        )
        assert mask is not None
        assert Attention(causal=causal, window=window).reach(time) == pytest.approx(float(mask.sum()) / time)
    assert Attention(cross=True).reach(23) == 23


def test_operations_do_not_grow_with_a_text_beyond_the_window() -> None:
    spec = small("mistral").model
    assert spec.flops(0, 10**9) == pytest.approx(spec.flops(0, 10**6), rel=1e-4)
    dense = small("llama").model
    assert dense.flops(0, 2000) - dense.flops(0, 1000) == 4 * (4 * 32) * 500  # layers x width x half of 1000 more


def _touched(model: nn.Module, spec: Model) -> int:
    """Entries of the matrices that one token is multiplied with, read off the module; a filter, at each of its bytes."""
    count = 0
    spelled = spec.embed.spelled
    moe = next((p for p in walk(spec.stack) if isinstance(p, MoE)), None)
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding | LearnedPositions.Module)}
    for name, p in model.named_parameters():
        if spelled and ".convolutions." in name and p.dim() > 1:
            count += p.numel() * (spelled.length - p.shape[1] // spelled.chars + 1)
        elif p.dim() > 1 and (id(p) not in tables or p is model.head.weight):
            count += p.numel() * moe.top // moe.experts if moe and ".experts." in name else p.numel()
    return count


@pytest.mark.parametrize("name", TRAINS)
def test_parameters_three_ways(name: str) -> None:
    spec = small(name).model
    model = spec.build()
    found = costs.parameters(spec)
    assert found.total == sum(p.numel() for p in model.parameters())
    outside = [*model.embed.parameters(), *([] if spec.head.tied else [model.head.weight])]
    assert found.non_embedding == found.total - sum(p.numel() for p in outside)
    assert found.effective == _touched(model, spec)


def test_shared_layers_count_each_time_they_run() -> None:
    """ALBERT's trick: one layer's parameters, four layers' work; and a narrow table with its projection."""
    spec = small("gpt2").model
    shared = spec.replace(stack=spec.stack.replace(share=True), embed=Embedding(VOCAB, dim=8), head=Head(tied=False))
    plain = costs.parameters(spec)
    found = costs.parameters(shared)
    assert found.effective == plain.effective + 8 * 32
    assert found.total < plain.total / 2


def test_a_known_size() -> None:
    """GPT-2 small: 124M in all; Kaplan's 85M = 12 x 12 x 768^2 with its norms and biases; 38.6M of read-out count as work."""
    found = costs.parameters(recipes.make("gpt2").model)
    assert found.total == 124_439_808
    assert found.non_embedding == 124_439_808 - (50257 + 1024) * 768
    assert found.effective == 12 * 12 * 768**2 + 50257 * 768


def test_experts_that_sleep_cost_nothing() -> None:
    expert = MLP(64, gated=True)
    few, many = (costs.parameters(Model(32, stack=_experts(n, expert))) for n in (4, 8))
    assert many.total - few.total == 4 * (3 * 32 * 64 + 32) * 2
    assert many.effective - few.effective == 4 * 32 * 2  # the router alone


def _experts(count: int, expert: MLP) -> Any:
    return Stack((Block((Attention(4), MoE(count, 2, expert))),), depth=2)


def _bytes(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_bytes(v) for v in value.values())
    if isinstance(value, list):
        return sum(map(_bytes, value))
    return value.nbytes if isinstance(value, Tensor) else 0


@pytest.mark.parametrize("name", TRAINS)
def test_state_is_what_a_model_allocates(name: str) -> None:
    recipe = small(name)
    model = recipe.model.build()
    for dtype in (torch.float32, torch.bfloat16):
        state = model.init_state(1, 32, dtype=dtype)
        assert costs.decoding(recipe, 32, dtype.itemsize).state == _bytes(state["layers"])


@pytest.mark.parametrize("name", TRAINS)
def test_a_decoded_token_costs_what_a_step_multiplies(name: str) -> None:
    recipe, past = small(name), 19
    model = recipe.model.build().eval()
    state = model.init_state(1, past + 1)
    with torch.no_grad():
        model(torch.randint(0, VOCAB, (1, past)), state=state)
        with forced(**SEEN), FlopCounterMode(display=False) as counter:
            model(torch.randint(0, VOCAB, (1, 1)), state=state)
    assert costs.decoding(recipe, past + 1).operations == pytest.approx(counter.get_total_flops(), rel=1e-9)


def test_a_window_bounds_what_is_read() -> None:
    short, long = (costs.decoding(small("mistral"), n) for n in (7, 32))
    assert short.read == long.read and short.operations == long.operations and short.state < long.state
    recurrent = [costs.decoding(small("lstm"), n) for n in (7, 32)]
    assert recurrent[0] == recurrent[1]


@pytest.mark.parametrize("name", [n for n in TRAINS if n != "nnlm"])
def test_activations_are_estimated_to_a_factor(name: str) -> None:
    recipe = small(name, dim=64, context=64)
    model, tokens = recipe.model.build(), 2 * 64
    own = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}
    alive = []  # so that no address is used twice

    def pack(x: Tensor) -> Tensor:
        alive.append(x)
        if x.data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        model.hidden(torch.randint(0, VOCAB, (2, 64)))
    assert 0.5 < 4 * tokens * costs.activations(recipe.model, 64) / sum(kept.values()) < 1.7


def test_memory_of_training() -> None:
    recipe = small("gpt2")
    total = recipe.parameters_total
    nothing = costs.training_memory(recipe, 0)
    assert nothing.fixed == 16 * total + 2 * total  # weights, gradients, two moments, weights in bf16
    assert nothing.moving == 0
    one, two = (costs.training_memory(recipe, rows) for rows in (1, 2))
    assert one.fixed == nothing.fixed and two.moving == pytest.approx(2 * one.moving, abs=2)
    assert one.moving > 6 * 4 * 32 * VOCAB and one.total == one.fixed + one.moving
    plain, total = small("zaremba"), small("zaremba").parameters_total
    assert costs.training_memory(plain, 0, itemsize=4).fixed == 8 * total  # SGD without momentum
    heavy = plain.replace(training=plain.training.replace(optimizer=SGD(momentum=0.9)))
    assert costs.training_memory(heavy, 0, itemsize=4).fixed == 12 * total


def test_a_wide_model_takes_fewer_rows_at_a_time() -> None:
    recipe = small("gpt2")
    assert costs.rows_per_pass(recipe) == 32
    wide = recipe.replace(model=recipe.model.replace(dim=2**17))
    assert costs.rows_per_pass(wide) == 2**28 // (16 * 32 * 2**17)
    stream = recipes.make("lstm", dim=2**17, context=32)
    assert costs.rows_per_pass(stream) == stream.training.batch


@pytest.mark.parametrize("name", TRAINS)
def test_a_ladder_of_every_recipe(name: str) -> None:
    rungs = costs.ladder(name, vocab=512, context=128, low=2e5, high=2e6, count=4)
    assert 2 <= len(rungs) <= 4
    assert len({r.recipe.model for r in rungs}) == len(rungs)
    assert [r.total for r in rungs] == sorted(r.total for r in rungs)
    low, high = recipes.get(name).depths
    for r in rungs:
        assert r.recipe.name == name and low <= r.recipe.model.stack.depth <= high
        assert r.recipe.training.context == 128 and r.recipe.model.embed.vocab == 512
        assert r.total == r.recipe.parameters_total == pytest.approx(r.wish, rel=0.1)
        assert r.non_embedding < r.total and r.effective > 0 and r.memory.fixed >= 8 * r.total
        assert r.training == 3 * r.forward and r.forward > 2 * r.effective * 0.999
        assert (r.count("total"), r.count("effective")) == (r.total, r.effective)
        assert r.recipe.model.stack.depth == min(max(round(r.recipe.model.dim / recipes.get(name).aspect), low), high)


def test_a_ladder_begins_where_shapes_begin() -> None:
    rungs = costs.ladder("gpt2", vocab=4096, context=128, low=1_000, high=4e6, count=4)
    assert rungs[0].recipe.model.stack.depth == 2 and rungs[0].total < 200_000
    with pytest.raises(ValueError, match="too few for gpt2: with a vocabulary of 50,000"):
        costs.ladder("gpt2", vocab=50_000, context=128, low=1_000, high=100_000, count=3)
    with pytest.raises(ValueError, match="at least one rung"):
        costs.ladder("gpt2", vocab=50, context=128, low=1e6, high=1e5, count=3)


def test_a_batch_is_kept() -> None:
    (one,) = costs.ladder("llama", vocab=512, context=128, low=5e5, high=5e5, count=1, batch=7)
    assert one.recipe.training.batch == 7 and one.wish == 500_000


def test_a_counted_recipe_has_one_rung() -> None:
    (one,) = costs.ladder("ngram", vocab=512, context=128, low=1, high=10, count=5)
    assert one.forward == 0 and one.effective == 0 and one.decoding.state == 2 * 8 * 4 and one.memory.total == 2**30
