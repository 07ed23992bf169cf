"""Rows that come and go, against a state of every row's own; snapshots and the way back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genus.generate.engine import Engine
from genus.generate.slots import STEP, Slots
from genus.generate.state import rows_of, snapshot
from genus.run import Loaded

NAMES = ["gpt2", "mistral", "lstm", "deltanet", "nnlm", "t5", "rnnsearch"]
SOURCES = [(5, 9, 256), (70,) * 8 + (256,), (33, 44, 55, 66, 256)]


def _engine(small: Callable[..., Loaded], name: str) -> Engine:
    loaded = small(name)
    return Engine(loaded.model, loaded.tokenizer)


def _sources(engine: Engine, rows: list[int]) -> list[tuple[int, ...]] | None:
    return [SOURCES[row] for row in rows] if engine.model.spec.encoder is not None else None


def _text(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [256, *torch.randint(0, 256, (length - 1,), generator=generator).tolist()]


def _alone(engine: Engine, row: int, ids: list[int]) -> Tensor:
    state = engine.blank(1, len(ids), _sources(engine, [row]))
    return engine.read([ids], state)[0]


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_rows_that_come_and_go_are_alone(small: Callable[..., Loaded], name: str) -> None:
    engine = _engine(small, name)
    texts = [_text(20, seed) for seed in range(3)]
    slots, rows, done = Slots(engine.layout, 3, engine.limit), [], [0, 0, 0]

    def join(new: list[int], length: int) -> None:
        state = engine.blank(len(new), length, _sources(engine, new))
        engine.read([texts[i][:length] for i in new], state)
        slots.add(state, range(len(new)), 20)
        rows.extend(new)
        for i in new:
            done[i] = length

    def step() -> None:
        logits = engine.read([[texts[i][done[i]]] for i in rows], slots.state)
        for place, i in enumerate(rows):
            done[i] += 1
            torch.testing.assert_close(logits[place], _alone(engine, i, texts[i][: done[i]]), atol=2e-4, rtol=1e-3)

    join([0], 5)
    step()
    join([1, 2], 3)
    step()
    step()
    slots.remove(0)
    rows[:] = [2, 1]
    step()
    join([0], 9)
    step()
    slots.remove(2)
    rows.pop()
    step()
    slots.remove(0)
    slots.remove(0)
    rows.clear()
    assert slots.rows == 0
    join([2], 2)
    step()


@torch.inference_mode()
def test_room_grows_and_is_given_back(small: Callable[..., Loaded]) -> None:
    engine = Engine(small("llama").model, small("llama").tokenizer)
    slots = Slots(engine.layout, 8)
    state = engine.blank(3)
    slots.add(state, [0], 10)
    small_size = slots.nbytes
    assert slots.columns == STEP and small_size == engine.layout.nbytes(1, STEP)
    slots.add(state, [0, 1, 2], 1000)
    assert slots.columns == 1024 and slots.rows == 4
    engine.read([_text(n, n) for n in (1, 2, 3, 4)], slots.state)
    before = engine.read([[7]] * 4, slots.state)
    slots.trim(100)
    assert slots.columns == 100 and slots.nbytes == engine.layout.nbytes(4, 100)
    for place, n in enumerate((1, 2, 3, 4)):
        torch.testing.assert_close(before[place], _alone(engine, 0, [*_text(n, n), 7]), atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(
        engine.read([[8]] * 4, slots.state)[3], _alone(engine, 0, [*_text(4, 4), 7, 8]), atol=2e-4, rtol=1e-3
    )


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_rewind_is_as_if_the_rest_had_not_been_read(small: Callable[..., Loaded], name: str) -> None:
    """Two rows guess five tokens; one keeps two of them, the other none."""
    engine = _engine(small, name)
    texts = [_text(20, 1), _text(20, 2)]
    state = engine.blank(2, 20, _sources(engine, [0, 1]))
    engine.read([texts[0][:6], texts[1][:3]], state)
    before = snapshot(state)
    guess = [[*texts[0][6:8], 1, 1, 1], [2, 2, 2, 2]]
    every = engine.read(guess, state, every=True)
    assert every.shape[:2] == (2, 5)
    torch.testing.assert_close(every[0, 1], _alone(engine, 0, texts[0][:8]), atol=2e-4, rtol=1e-3)
    engine.rewind(state, before, [guess[0][:2], []])
    assert state["start"].tolist() == [8, 3]
    after = engine.read([texts[0][8:10], texts[1][3:4]], state)
    torch.testing.assert_close(after[0], _alone(engine, 0, texts[0][:10]), atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(after[1], _alone(engine, 1, texts[1][:4]), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_every_row_may_go_back_as_far_as_it_likes(small: Callable[..., Loaded], name: str) -> None:
    engine = _engine(small, name)
    texts = [_text(12, seed) for seed in range(3)]
    state = engine.blank(3, 20, _sources(engine, [0, 1, 2]))
    states = [snapshot(state)]
    for place in range(8):
        engine.read([[text[place]] for text in texts], state)
        states.append(snapshot(state))
    for lengths in ([5, 1, 8], [4, 4, 4]):
        back = rows_of(states, lengths)
        assert back["start"].tolist() == lengths
        found = engine.read([text[n : n + 1] for text, n in zip(texts, lengths)], back)
        for row, n in enumerate(lengths):
            torch.testing.assert_close(found[row], _alone(engine, row, texts[row][: n + 1]), atol=2e-4, rtol=1e-3)


@torch.inference_mode()
def test_a_layout_knows_what_a_state_costs(small: Callable[..., Loaded]) -> None:
    constant, growing, both = (_engine(small, name).layout for name in ("lstm", "gpt2", "transformer"))
    assert constant.column == 0 and constant.row == 2 * 2 * 32 * 4 and constant.constant
    assert growing.row == 0 and growing.column == 2 * 2 * 32 * 4 and not growing.constant
    assert both.memory == 0  # no source has been read
    engine = _engine(small, "transformer")
    engine.blank(2, sources=SOURCES[:2])
    assert engine.layout.memory == 2 * 2 * 32 * 4
