"""Recorded steps: what they give is what the model gives, bit for bit, however rows come, go and grow."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.generate.replay import SEEN, STEPS, Replays
from genus.generate.state import Layout
from genus.generate.taped import TapedStep
from genus.generate.weights import ready
from genus.ops.tape import replayer
from genus.recipes import make

pytestmark = pytest.mark.skipif(replayer() is None, reason="no kernels in C here")
ROOM = 40


def model(name: str, weights: str = "int8", **sizes: Any) -> Any:
    torch.manual_seed(0)
    return ready(make(name, dim=64, depth=2, heads=4, vocab=128, context=64, **sizes).model.build().eval(), weights)


def blank(model: Any, rows: int, dtype: torch.dtype, room: int = ROOM) -> Any:
    state = model.init_state(rows, room, dtype, torch.device("cpu"))
    state["start"] = torch.zeros(rows, dtype=torch.long)
    return state


@torch.inference_mode()
def told(model: Any, step: Any, state: Any, steps: int, dtype: torch.dtype) -> Tensor:
    """Logits of greedy steps; in the middle the rows come to have different lengths."""
    rows = len(state["start"])
    ids, found = torch.arange(5, 5 + rows)[:, None], []
    for i in range(steps):
        found.append(step(ids, state, dtype)[:, 0].clone())
        ids = found[-1].argmax(-1, keepdim=True)
        if i == steps // 2:
            state["start"] = state["start"] - torch.arange(rows)
    return torch.stack(found)


ATTENTION = ["llama", "gpt2", "mistral", "qwen3", "olmo2", "gemma2", "transformer-residual"]
CONSTANT = ["fwp", "linear-transformer", "retnet", "deltanet", "gated-deltanet", "deltanet-hybrid", "rnn", "lstm", "gru"]


@pytest.mark.parametrize("weights", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("name", ATTENTION + CONSTANT)
def test_a_recorded_step_is_the_model(name: str, weights: str) -> None:
    dtype = torch.bfloat16
    one = model(name, weights)
    replays = Replays(one, Layout(one, dtype))
    state, other = blank(one, 3, dtype), blank(one, 3, dtype)
    assert replays.takes(torch.zeros(3, 1), state)
    expected = told(one, one.decode, other, 12, dtype)
    assert torch.equal(told(one, replays.logits, state, 12, dtype), expected)
    assert [type(step) for step in replays._steps.values()] == [TapedStep]
    for mine, its in zip(state["layers"], other["layers"], strict=True):
        for part, same in zip(mine, its, strict=True):
            assert all(torch.equal(part[key], same[key]) for key in part or ())
    assert torch.equal(state["start"], other["start"])


@torch.inference_mode()
def several(model: Any, step: Any, rows: int, dtype: torch.dtype, time: int, passes: int = 7) -> tuple[Tensor, Any]:
    """Logits after every token of passes over `time` tokens of each row, of which some are taken back; and the state."""
    room = max(ROOM, passes * time)
    state, text = blank(model, rows, dtype, room), torch.randint(0, 128, (rows, room), generator=torch.Generator().manual_seed(1))
    state["start"] += torch.arange(rows)
    found = []
    for i in range(passes):
        ids = text.gather(1, state["start"][:, None] + torch.arange(time))
        found.append(step(ids, state, dtype).clone())
        state["start"] -= (torch.arange(rows) + i) % time
    return torch.cat(found, 1), state


@pytest.mark.parametrize("weights", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("name", ATTENTION)
def test_a_recorded_pass_over_several_tokens_is_the_model(name: str, weights: str) -> None:
    """And, with stored weights, bit for bit what single tokens give: so a checked text is the text."""
    dtype = torch.bfloat16
    one = model(name, weights)
    replays = Replays(one, Layout(one, dtype))

    def singly(ids: Tensor, state: Any, dtype: torch.dtype) -> Tensor:
        return torch.cat([one.decode(each, state, dtype) for each in ids.split(1, 1)], 1)

    for time in (5, 2):
        expected, state = several(one, one.decode, 3, dtype, time)
        again, own = several(one, replays.logits, 3, dtype, time)
        assert torch.equal(again, expected)
        assert torch.equal(several(one, singly, 3, dtype, time)[0], expected)
        assert torch.equal(own["start"], state["start"])
        for mine, its in zip(own["layers"], state["layers"], strict=True):
            for part, same in zip(mine, its, strict=True):
                assert all(torch.equal(part[key], same[key]) for key in part or ())
    assert [type(step) for step in replays._steps.values()] == [TapedStep, TapedStep]


@pytest.mark.parametrize("name", ["lstm", "deltanet"])
def test_where_several_tokens_cannot_be_recorded_single_ones_still_are(name: str) -> None:
    one = model(name)
    replays = Replays(one, Layout(one, torch.bfloat16))
    for time in (4, 1):
        expected, _ = several(one, one.decode, 2, torch.bfloat16, time)
        assert torch.equal(several(one, replays.logits, 2, torch.bfloat16, time)[0], expected)
    assert [type(step) for step in replays._steps.values()][-1] is TapedStep
    state = blank(one, 2, torch.bfloat16)
    assert replays.takes(torch.zeros(2, 1), state) and not replays.takes(torch.zeros(2, 4), state)


@torch.inference_mode()
def test_tapes_that_are_used_are_kept() -> None:
    one = model("llama")
    replays = Replays(one, Layout(one, torch.bfloat16))
    state = blank(one, 1, torch.bfloat16)
    for _ in range(SEEN + 1):
        replays.logits(torch.zeros(1, 1, dtype=torch.long), state, torch.bfloat16)
    (key, step), *_ = replays._steps.items()
    for rows in range(2, STEPS + 3):
        replays.logits(torch.zeros(rows, 1, dtype=torch.long), blank(one, rows, torch.bfloat16), torch.bfloat16)
        replays.logits(torch.zeros(1, 1, dtype=torch.long), state, torch.bfloat16)
    assert replays._steps[key] is step and len(replays._steps) == STEPS


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_a_tape_goes_round_a_ring(name: str, dtype: torch.dtype) -> None:
    one = model(name, window=20)
    replays = Replays(one, Layout(one, dtype))
    state, other = blank(one, 3, dtype, 200), blank(one, 3, dtype, 200)
    assert state["layers"][0][0]["keys"].shape[2] == 128
    expected = told(one, one.decode, other, 200, dtype)
    assert torch.equal(told(one, replays.logits, state, 200, dtype), expected)
    assert [type(step) for step in replays._steps.values()] == [TapedStep]
    for mine, its in zip(state["layers"], other["layers"], strict=True):
        assert all(torch.equal(mine[0][key], its[0][key]) for key in ("keys", "values"))
    expected, other = several(one, one.decode, 3, dtype, 5, 60)
    again, state = several(one, replays.logits, 3, dtype, 5, 60)
    assert int(state["start"].min()) > 160 and torch.equal(again, expected)
    assert [type(step) for step in replays._steps.values()] == [TapedStep, TapedStep]


def test_a_tape_moves_with_the_state_and_does_not_keep_it() -> None:
    one = model("llama")
    replays = Replays(one, Layout(one, torch.bfloat16))
    expected = told(one, one.decode, blank(one, 2, torch.bfloat16), 8, torch.bfloat16)
    gone, kept = [], []
    for _ in range(3):
        state = blank(one, 2, torch.bfloat16)
        gone.append(weakref.ref(state["layers"][0][0]["keys"]))
        kept.append(torch.empty(10_000))  # so that the next state lies elsewhere
        assert torch.equal(told(one, replays.logits, state, 8, torch.bfloat16), expected)
        del state
    assert [type(step) for step in replays._steps.values()] == [TapedStep]
    assert not any(reference() is not None for reference in gone)


def test_float32_and_other_numbers_of_rows() -> None:
    one = model("llama")
    replays = Replays(one, Layout(one, torch.float32))
    for rows in (1, 2, 1):
        expected = told(one, one.decode, blank(one, rows, torch.float32), 9, torch.float32)
        assert torch.equal(told(one, replays.logits, blank(one, rows, torch.float32), 9, torch.float32), expected)


@pytest.mark.parametrize("name", ["bloom", "mixtral", "performer", "nnlm"])
def test_what_cannot_be_recorded_runs_as_ever(name: str) -> None:
    """Biases that grow with the text, products that depend on the numbers, features and states that have no kernel."""
    one = model(name)
    replays = Replays(one, Layout(one, torch.bfloat16))
    expected = told(one, one.decode, blank(one, 2, torch.bfloat16), 8, torch.bfloat16)
    assert torch.equal(told(one, replays.logits, blank(one, 2, torch.bfloat16), 8, torch.bfloat16), expected)
    assert not replays.takes(torch.zeros(2, 1), blank(one, 2, torch.bfloat16))


@torch.inference_mode()
def test_a_full_state_is_told_and_not_written_beyond() -> None:
    one = model("llama")
    replays = Replays(one, Layout(one, torch.bfloat16))
    state = blank(one, 1, torch.bfloat16)
    ids = torch.zeros(1, 1, dtype=torch.long)
    for _ in range(ROOM):
        replays.logits(ids, state, torch.bfloat16)
    assert ROOM > SEEN
    with pytest.raises(ValueError, match=f"room for {ROOM} positions, not {ROOM + 1}"):
        replays.logits(ids, state, torch.bfloat16)


def test_a_step_that_differs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    one = model("llama")
    replays = Replays(one, Layout(one, torch.bfloat16))
    expected = told(one, one.decode, blank(one, 2, torch.bfloat16), 8, torch.bfloat16)
    monkeypatch.setattr(TapedStep, "again", lambda self, one, held: self.y + 1)
    assert torch.equal(told(one, replays.logits, blank(one, 2, torch.bfloat16), 8, torch.bfloat16), expected)
    assert not replays.takes(torch.zeros(2, 1), blank(one, 2, torch.bfloat16))
