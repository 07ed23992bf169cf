"""Models with layers that see a window of the text, whose state does not grow with it: their texts, and what they hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from genus.generate.engine import Engine
from genus.generate.prefix import Prefixes
from genus.generate.replay import Replays
from genus.generate.sampling import Sampling
from genus.generate.scheduler import Scheduler
from genus.generate.sequence import Request
from genus.generate.slots import Slots
from genus.generate.speculative import Speculative
from genus.generate.state import at, leaves
from genus.ops.dispatch import OPS, forced
from genus.parts import ring
from genus.run import Loaded

Small = Callable[..., Loaded]
GREEDY = Sampling(0)
RING, CONTEXT = 128, 1024
NAMES = ["mistral", "gemma2", "gpt3", "gated-deltanet-h1"]  # all layers see a window; some do; beside states of constant size
LENGTHS = (5, 300, 140, 430, 77)


def _engine(small: Small, name: str) -> Engine:
    loaded = small(name, context=CONTEXT, **({} if name == "gru" else {"window": 20}))
    return Engine(loaded.model, loaded.tokenizer)


def _prompts(lengths: Sequence[int] = LENGTHS) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(3)
    text = torch.randint(0, 256, (CONTEXT,), generator=generator).tolist()
    return [(256, *text[: length - 3], length % 256, 1) for length in lengths]  # all begin alike


def _texts(
    engine: Engine, most: int, scheduler: Scheduler | None = None, prompts: Sequence[tuple[int, ...]] = ()
) -> list[list[int]]:
    scheduler = scheduler or Scheduler(engine)
    never = Sampling(0, logit_bias=((256, -100.0),))
    tickets = [scheduler.submit(Request(ids, most, never)) for ids in prompts or _prompts()]
    while scheduler.busy:
        scheduler.step()
    return [ticket.sequence.new_ids for ticket in tickets]


@pytest.fixture
def unwrapped(small: Small, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[int]]]:
    """The texts of an engine whose rings are never full: nothing is written over."""

    def texts(name: str, most: int) -> list[list[int]]:
        with monkeypatch.context() as patch:
            patch.setattr(ring, "SPARE", 2 * CONTEXT)
            return _texts(_engine(small, name), most)

    return texts


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_those_of_a_state_that_keeps_everything(
    small: Small, unwrapped: Callable[..., list[list[int]]], name: str
) -> None:
    most = 40
    expected, engine = unwrapped(name, most), _engine(small, name)
    assert set(engine.layout.rings.values()) == {RING} and all(len(text) == most for text in expected)
    assert _texts(engine, most) == expected  # together
    assert _texts(engine, most, Scheduler(engine, slots=1)) == expected
    assert _texts(engine, most, Scheduler(engine, slots=3, chunk=50)) == expected
    assert _texts(engine, most, Scheduler(engine, slots=3, chunk=4096)) == expected  # chunks larger than the ring
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Replays, "takes", lambda *_: False)
        assert _texts(engine, most) == expected
    with forced(**dict.fromkeys(OPS, "reference")):
        assert _texts(engine, most, Scheduler(engine, slots=3)) == expected


@torch.inference_mode()
def test_texts_are_the_argmax_of_a_full_forward(small: Small) -> None:
    engine = _engine(small, "mistral")
    ids = _prompts([250])[0]
    (text,) = _texts(engine, 30, prompts=[ids])
    logits = engine.model(torch.tensor([[*ids, *text]]))[0, len(ids) - 1 : -1, :256]
    assert logits.argmax(-1).tolist() == text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk", [64, 4096])
def test_known_beginnings_change_nothing(small: Small, unwrapped: Callable[..., list[list[int]]], name: str, chunk: int) -> None:
    expected, engine = unwrapped(name, 20), _engine(small, name)
    scheduler = Scheduler(engine, slots=2, chunk=chunk, prefixes=1e9)
    for _ in range(2):
        assert _texts(engine, 20, scheduler) == expected
    hits = scheduler.stats.prefix_hits
    assert hits >= sum((length - 1) // 64 * 64 for length in LENGTHS)  # the second time all whole blocks
    (text,) = _texts(engine, 90, scheduler, [_prompts()[1]])  # and what was written is known
    longer = [(*_prompts()[1], *text, 7)]
    assert _texts(engine, 20, scheduler, longer) == _texts(engine, 20, prompts=longer)
    assert scheduler.stats.prefix_hits - hits >= 256 + 384


@torch.inference_mode()
def test_a_prefix_holds_what_its_reader_would(small: Small) -> None:
    engine = _engine(small, "gemma2")
    ids = _prompts([420])[0]
    prefixes, state, done = Prefixes(engine.layout, 1e9, block=24), engine.blank(1, 420), 0
    while done < len(ids):
        stop = prefixes.until(done, min(done + 300, len(ids)))
        engine.read([ids[done:stop]], state)
        prefixes.keep(ids[:stop], None, state, 0, done)
        done = stop
    for length in (96, 120, 144, 384, 408):
        found, expected = prefixes.find(ids[: length + 1]), engine.blank(1, length)
        engine.read([ids[:length]], expected)
        assert found is not None and found["start"].tolist() == [length]
        for path, _, _ in leaves(expected["layers"]):
            torch.testing.assert_close(at(found["layers"], path), at(expected["layers"], path), atol=1e-4, rtol=1e-4)
    far = Prefixes(engine.layout, 1e9, block=24)
    far.keep(ids, None, state, 0, 0)  # the first blocks have left the rings
    assert far.length(ids) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", [3, 20])
def test_guessed_tokens_are_taken_back(small: Small, unwrapped: Callable[..., list[list[int]]], name: str, tokens: int) -> None:
    """A draft that is often wrong, whose state is a ring too: few tokens are read where they lie, many are not."""
    expected, engine = unwrapped(name, 40), _engine(small, name)
    model = engine.model.spec.build().eval()
    model.load_state_dict(engine.model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * parameter.std(correction=0) * torch.randn_like(parameter)
    decoder = Speculative(Engine(model, engine.tokenizer), tokens)
    assert _texts(engine, 40, Scheduler(engine, slots=3, decoder=decoder)) == expected
    assert 0 < decoder.kept < decoder.proposed


def test_more_guesses_than_can_be_taken_back_are_refused(small: Small) -> None:
    engine, other = _engine(small, "mistral"), _engine(small, "gru")
    with pytest.raises(ValueError, match=r"64 tokens cannot be proposed at a time.*at most 63"):
        Speculative(engine, 64)
    with pytest.raises(ValueError, match=r"64 tokens cannot be proposed at a time.*at most 63"):
        _texts(engine, 100, Scheduler(engine, decoder=Speculative(other, 64)))
    prompts = _prompts()[1:3]
    assert _texts(other, 80, Scheduler(other, decoder=Speculative(engine, 63)), prompts) == _texts(other, 80, prompts=prompts)


@torch.inference_mode()
def test_rows_come_go_and_grow_around_a_ring(small: Small) -> None:
    """Slots: a row with a full ring takes the place of another, and room that grows, or is given back, moves no position."""
    engine = _engine(small, "gemma2")
    texts = [list(ids) for ids in _prompts((40, 300, 140))]
    slots, rows = Slots(engine.layout, 3), [0]

    def join(row: int, length: int, columns: int) -> None:
        state = engine.blank(1, length)
        engine.read([texts[row][:length]], state)
        slots.add(state, [0], columns)

    def check() -> None:
        found = engine.read([[9]] * len(rows), slots.state)
        for place, row in enumerate(rows):
            texts[row].append(9)
            alone = engine.model(torch.tensor([texts[row]]))[0, -1, :256]
            torch.testing.assert_close(found[place, :256], alone, atol=2e-4, rtol=1e-3)

    join(0, 40, 60)
    check()
    for row in (1, 2):
        join(row, len(texts[row]), 320)
        rows.append(row)
        check()
    assert slots.columns == 384
    slots.trim(310)
    check()
    slots.remove(0)
    rows[:] = [2, 1]
    check()
    slots.remove(0)
    rows[:] = [1]
    check()


def test_a_windows_state_does_not_grow(small: Small) -> None:
    """Bytes of a request with 16,000 tokens, and what that leaves room for."""
    window, full = (small(name, context=20_000, **sizes) for name, sizes in (("mistral", {"window": 20}), ("llama", {})))
    engine = Engine(window.model, window.tokenizer)
    column = 2 * 2 * 16 * 4  # keys and values of two layers in float32, of a head that both heads of queries share
    assert engine.layout.column == 0 and engine.layout.row == 0
    assert engine.layout.nbytes(1, 100) == 100 * column and engine.layout.nbytes(3, 16_010) == 3 * RING * column
    memory = 2 * engine.layout.nbytes(3, 16_010)
    scheduler = Scheduler(engine, slots=3, chunk=16_000, memory=memory)
    tickets = [scheduler.submit(Request((256, *range(50)) * 313, 10, GREEDY)) for _ in range(3)]
    most = running = 0
    while scheduler.busy:
        scheduler.step()
        most, running = max(most, scheduler.stats.state_bytes), max(running, scheduler.stats.running)
    assert running == 3 and most <= memory and all(ticket.sequence.new_ids for ticket in tickets)
    with pytest.raises(ValueError, match="give the states more memory"):
        Scheduler(Engine(full.model, full.tokenizer), memory=memory).submit(Request((256,) * 15_963, 10, GREEDY))
    mixed = Engine((both := small("gemma2", window=20)).model, both.tokenizer).layout
    each = mixed.nbytes(1, 1) // 2
    assert mixed.nbytes(2, 1000) == 2 * (1000 * each + RING * each)
