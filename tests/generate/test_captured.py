"""Captured steps: what they give is what the model gives, however rows come, go and grow."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.generate import captured
from genus.generate.captured import CapturedStep, Captures
from genus.generate.engine import Engine
from genus.generate.replay import Replays
from genus.generate.sampling import Sampling
from genus.generate.scheduler import Scheduler
from genus.generate.sequence import Request
from genus.generate.state import Layout
from genus.ops.graph import Waitless
from genus.ops.tape import Unrecordable
from genus.recipes import make
from genus.run import Loaded

from .emulated import Emulated, as_on_a_gpu

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    as_on_a_gpu(monkeypatch)
    monkeypatch.setattr(captured, "SMALLEST", 8)  # so that short texts come from bucket to bucket
    monkeypatch.setattr(captured, "APART", 1e-4)  # in float32 no kernel differs more
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def model(name: str, **sizes: Any) -> Any:
    torch.manual_seed(0)
    return make(name, dim=32, depth=2, heads=2, vocab=96, context=64, **sizes).model.build().eval()


def captures(model: Any) -> tuple[Replays, Emulated]:
    layout, graphs = Layout(model, torch.float32), Emulated()
    return Replays(model, layout, Captures(model, layout, graphs)), graphs


def blank(model: Any, rows: int, room: int = 40) -> Any:
    state = model.init_state(rows, room, torch.float32, torch.device("cpu"))
    state["start"] = torch.zeros(rows, dtype=torch.long)
    return state


@torch.inference_mode()
def told(step: Any, state: Any, steps: int, time: int = 1) -> Tensor:
    """Logits of greedy passes over `time` tokens; in the middle the rows come to have different lengths."""
    rows = len(state["start"])
    ids, found = torch.arange(5, 5 + rows)[:, None] + torch.arange(time), []
    for i in range(steps):
        found.append(step(ids, state, torch.float32).clone())
        ids = found[-1].argmax(-1)
        if i == steps // 2:
            state["start"] = state["start"] - torch.arange(rows)
    return torch.stack(found)


def same_state(mine: Any, its: Any) -> None:
    assert torch.equal(mine["start"], its["start"])
    for layer, other in zip(mine["layers"], its["layers"], strict=True):
        for part, same in zip(layer, other, strict=True):
            for key in part or ():
                torch.testing.assert_close(part[key], same[key], **CLOSE)


ATTENTION = ["gpt2", "llama", "qwen3", "gemma2", "bloom"]
CONSTANT = ["deltanet", "gated-deltanet", "deltanet-hybrid", "retnet", "performer", "lstm", "gru", "nnlm"]


@pytest.mark.parametrize("name", ATTENTION + CONSTANT)
def test_a_captured_step_is_the_model(name: str) -> None:
    one = model(name)
    replays, graphs = captures(one)
    state, other = blank(one, 3), blank(one, 3)
    torch.testing.assert_close(told(replays.logits, state, 30), told(one.decode, other, 30), **CLOSE)
    same_state(state, other)
    steps = [step for step in replays._steps.values() if isinstance(step, CapturedStep)]
    assert [step.room for step in steps] == [8, 16, 32] and len(graphs.captured) == 3


def test_a_captured_step_goes_round_a_ring() -> None:
    one = model("mistral", window=20)
    replays, graphs = captures(one)
    state, other = blank(one, 3, 300), blank(one, 3, 300)
    assert state["layers"][0][0]["keys"].shape[2] == 128
    torch.testing.assert_close(told(replays.logits, state, 200), told(one.decode, other, 200), **CLOSE)
    same_state(state, other)
    assert len(graphs.captured) == 6  # 8, 16, ... 256


@pytest.mark.parametrize("name", ["llama", "deltanet", "lstm"])
def test_several_tokens_of_each_row(name: str) -> None:
    one = model(name)
    replays, graphs = captures(one)
    state, other = blank(one, 2), blank(one, 2)
    torch.testing.assert_close(told(replays.logits, state, 12, 3), told(one.decode, other, 12, 3), **CLOSE)
    same_state(state, other)
    assert len(graphs.captured) == 2  # up to 8 positions there are too few passes


def engine(loaded: Loaded) -> tuple[Engine, Engine, Emulated]:
    """One that captures, and one that does not."""
    mine, its = (Engine(loaded.model, loaded.tokenizer) for _ in range(2))
    mine._replays, graphs = captures(loaded.model)
    its._replays._most = 0
    return mine, its, graphs


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "deltanet", "lstm", "t5", "rnnsearch"])
def test_rows_that_come_and_go(small: Callable[..., Loaded], name: str) -> None:
    """Texts of different length and begin, some of them drawn; GPT-2's outgrow its positions, and are read again."""
    mine, its, graphs = engine(small(name, context=24) if name == "gpt2" else small(name))
    draw = torch.Generator().manual_seed(3)
    sourced = getattr(mine.model.spec, "encoder", None) is not None
    requests = []
    for i in range(7):
        ids = torch.randint(0, 256, (1 if sourced else 1 + 2 * i,), generator=draw).tolist()
        source = tuple(torch.randint(0, 256, (3 + i,), generator=draw).tolist()) if sourced else None
        sampling = Sampling(0.0) if i % 2 else Sampling(0.9, top_k=20, top_p=0.9)
        requests.append(Request(tuple(ids), 5 + 6 * (i % 3), sampling, seed=i, source=source))
    texts = []
    for one in (mine, its):
        found = {number: row.new_ids for number, _, row in one.run(requests, batch=3) if row.finish is not None}
        texts.append([found[i] for i in range(7)])
    assert texts[0] == texts[1]
    assert graphs.captured and {int(step.inputs.shape[0]) for step in steps_of(mine)} >= {3}


def steps_of(engine: Engine) -> list[CapturedStep]:
    return [step for step in engine._replays._steps.values() if isinstance(step, CapturedStep)]


@torch.inference_mode()
def test_a_state_that_somebody_kept_stays_as_it_was(small: Callable[..., Loaded]) -> None:
    """Prefixes and guessed tokens go back to what a row was."""
    mine, its, _ = engine(small("deltanet"))
    text = torch.randint(0, 256, (80,), generator=torch.Generator().manual_seed(1)).tolist()
    going = Sampling(0, logit_bias=((256, -100.0),))  # no end
    for one in (mine, its):
        scheduler = Scheduler(one, prefixes=1e8, slots=2)
        first = scheduler.submit(Request((*text[:70],), 70, going))
        while scheduler.busy:
            scheduler.step()
        again = scheduler.submit(Request((*text[:70], *first.sequence.new_ids[:65], 7), 10, Sampling(0)))
        while scheduler.busy:
            scheduler.step()
        assert scheduler.stats.prefix_hits == 128
        if one is mine:
            found = first.sequence.ids, again.sequence.ids
    assert found == (first.sequence.ids, again.sequence.ids)


@torch.inference_mode()
def test_a_state_that_moves_is_captured_anew() -> None:
    one = model("llama")
    replays, graphs = captures(one)
    expected = told(one.decode, blank(one, 2), 7)
    states = [blank(one, 2) for _ in range(2)]
    for state in states:
        torch.testing.assert_close(told(replays.logits, state, 7), expected, **CLOSE)
    assert len(graphs.captured) == 2


@torch.inference_mode()
def test_a_full_state_is_told() -> None:
    one = model("llama")
    replays, _ = captures(one)
    state, ids = blank(one, 1, 12), torch.zeros(1, 1, dtype=torch.long)
    for _ in range(12):
        replays.logits(ids, state, torch.float32)
    with pytest.raises(ValueError, match="room for 12 positions, not 13"):
        replays.logits(ids, state, torch.float32)


def test_what_cannot_be_captured_runs_as_ever_and_says_so_once() -> None:
    """A mixture of experts sorts tokens by expert, and asks how many each has."""
    one = model("mixtral")
    replays, graphs = captures(one)
    expected = told(one.decode, blank(one, 2), 9)
    with pytest.warns(RuntimeWarning, match="without CUDA graphs, slower: .* makes the processor wait") as said:
        assert torch.equal(told(replays.logits, blank(one, 2), 9), expected)
        assert torch.equal(told(one.decode, blank(one, 2), 9), expected)
    assert len(said) == 1 and not graphs.captured
    assert not replays.takes(torch.zeros(2, 1), blank(one, 2))


def test_a_graph_that_differs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    one = model("lstm")
    replays, _ = captures(one)
    again = CapturedStep.again
    monkeypatch.setattr(CapturedStep, "again", lambda self, one, held: again(self, one, held) * 1.01)
    expected = told(one.decode, blank(one, 2), 9)
    with pytest.warns(RuntimeWarning, match="a recorded step differs from the model"):
        assert torch.equal(told(replays.logits, blank(one, 2), 9), expected)
    assert not replays.takes(torch.zeros(2, 1), blank(one, 2))


def test_what_lies_in_the_processors_memory_is_no_part_of_a_graph() -> None:
    """On tensors of a device that only pretends, since there is none."""
    from torch._subclasses import FakeTensorMode

    with torch.inference_mode(), FakeTensorMode():
        there = torch.zeros(3, device="cuda")
        for work in (there.tolist, lambda: there.max().item(), there.cpu):
            with pytest.raises(Unrecordable), Waitless():
                work()
