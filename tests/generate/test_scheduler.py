"""Requests that come and go, against each of them alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import genus
from genus import recipes
from genus.generate.decoder import Plain
from genus.generate.engine import Engine
from genus.generate.sampling import Choice, Sampling
from genus.generate.scheduler import Event, Full, Scheduler, Ticket
from genus.generate.sequence import Request
from genus.generate.sequence import Sequence as Row
from genus.generate.state import State
from genus.run import Loaded

GREEDY = Sampling(0)
SYSTEMS = [s for s in genus.recipes.systems() if s.branch not in ("counting", "encoder")]
TEXTS = [
    b"In the beginning",
    b"Go",
    b"And God said, Let there be light: and there was",
    b"x",
    b"In the beginning God created",
    b"",
]
OTHERS = ["gpt2", "mistral", "lstm", "deltanet", "bloom", "t5", "rnnsearch"]  # one of each kind of state


def _load(small: Callable[..., Loaded], name: str) -> Loaded:
    """With windows so narrow that they matter."""
    accepted = inspect.signature(recipes.get(name).function).parameters
    return small(name, **({"window": 5} if "window" in accepted else {}))


def _engine(small: Callable[..., Loaded], name: str, **sizes: Any) -> Engine:
    loaded = small(name, **sizes) if sizes else _load(small, name)
    return Engine(loaded.model, loaded.tokenizer)


def _request(engine: Engine, text: bytes, **options: Any) -> Request:
    options = {"max_tokens": 10, "sampling": GREEDY, **options}
    if engine.model.spec.encoder is not None:
        return Request((256,), source=(*text, 256), **options)
    return Request((256, *text), **options)


def _finish(scheduler: Scheduler, most: int = 500) -> list[Event]:
    events = []
    while scheduler.busy:
        events += scheduler.step()
        most -= 1
        assert most, "it does not come to an end"
    return events


def _alone(engine: Engine, request: Request) -> list[int]:
    scheduler = Scheduler(engine, slots=1)
    ticket = scheduler.submit(request)
    _finish(scheduler)
    return ticket.sequence.new_ids


def _ids(tickets: Sequence[Ticket]) -> list[list[int]]:
    return [t.sequence.new_ids for t in tickets]


@pytest.mark.parametrize("name", [s.name for s in SYSTEMS])
def test_a_crowd_that_comes_and_goes_is_alone(small: Callable[..., Loaded], name: str) -> None:
    """Three slots for nine requests, two of which are cancelled; prompts are read five tokens at a time and their states kept."""
    engine = _engine(small, name)
    endless = Sampling(0, logit_bias=((256, -100.0),))  # some models would end at once
    texts = enumerate((*TEXTS, *TEXTS[:3]))
    requests = [_request(engine, text, max_tokens=3 + 4 * (i % 3), sampling=endless) for i, text in texts]
    alone = [_alone(engine, request) for request in requests]
    assert len(set(map(tuple, alone))) > 2  # the models do say different things
    scheduler = Scheduler(engine, slots=3, chunk=5, prefixes=1e8)
    tickets = [scheduler.submit(request) for request in requests[:4]]
    for request in requests[4:]:
        scheduler.step()
        tickets.append(scheduler.submit(request))
        if len(tickets) == 6:
            scheduler.cancel(tickets[2])
    scheduler.cancel(tickets[-1])
    _finish(scheduler)
    for ticket, expected in zip(tickets, alone):
        found = ticket.sequence.new_ids
        assert found == (expected[: len(found)] if ticket.sequence.finish == "cancelled" else expected)
    assert [t.number for t in tickets if t.sequence.finish == "cancelled"] == [2, 8]


class _Text:
    """A document with the interface of a prepared split."""

    def __init__(self) -> None:
        self.stream = np.array([*b"In the beginning God created the heaven and the earth. " * 3, 256], np.uint16)
        self.tokens, self.ends = len(self.stream), np.array([len(self.stream)])

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.stream[start:stop]


def test_an_ngram_in_a_crowd(tmp_path: Any) -> None:
    from genus.prepare.tokenizer import bytes_tokenizer
    from genus.train.kneser_ney import estimate

    model = estimate(_Text(), 4, 257, 256, 256, tmp_path / "model")
    engine = Engine(model.eval(), bytes_tokenizer())
    requests = [Request((256, *text), 15, Sampling(1.3), seed=i) for i, text in enumerate(TEXTS)]
    alone = [_alone(engine, request) for request in requests]
    scheduler = Scheduler(engine, slots=3, chunk=5, prefixes=1e6)
    tickets = [scheduler.submit(request) for request in requests]
    _finish(scheduler)
    assert _ids(tickets) == alone


@pytest.mark.parametrize("name", OTHERS)
def test_chunks_do_not_matter(small: Callable[..., Loaded], name: str) -> None:
    engine = _engine(small, name)
    requests = [_request(engine, text) for text in TEXTS]
    found = []
    for chunk, prefixes in ((1, 0.0), (7, 0.0), (16, 1e8), (1000, 0.0), (1000, 1e8)):
        scheduler = Scheduler(engine, slots=4, chunk=chunk, prefixes=prefixes)
        tickets = [scheduler.submit(request) for request in requests]
        _finish(scheduler)
        found.append(_ids(tickets))
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize("name", OTHERS)
def test_a_known_prefix_changes_nothing_but_what_is_read(
    small: Callable[..., Loaded], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genus.generate.prefix.Prefixes.__init__.__defaults__", (8,))
    engine = _engine(small, name)
    shared = b"The same words stand before every question. "
    texts = [shared + b"Why?", shared + b"How is that?", shared[:20] + b"or not", shared + b"Why?"]
    if engine.model.spec.encoder is None:
        requests = [_request(engine, text, max_tokens=5) for text in texts]
    else:  # the same source, and what was written of its translation
        requests = [
            Request((256, *text), 5, GREEDY, source=(*source, 256))
            for text, source in zip(texts, (b"Ein", b"Ein", b"Ein", b"Zwei"))
        ]
    plain, caching = Scheduler(engine), Scheduler(engine, prefixes=1e8)
    for i, request in enumerate(requests):
        tickets = [scheduler.submit(request) for scheduler in (plain, caching)]
        for scheduler in (plain, caching):
            _finish(scheduler)
        assert tickets[0].sequence.new_ids == tickets[1].sequence.new_ids
        if i == 1:
            assert caching.stats.prefix_hits == 40  # 45 tokens agree
    tokens = sum(len(r.ids) for r in requests)
    assert plain.stats.prompt_tokens == tokens and plain.stats.prefix_hits == plain.stats.prefix_bytes == 0
    assert caching.stats.prompt_tokens + caching.stats.prefix_hits == tokens
    last = 48 if engine.model.spec.encoder is None else 0  # the same words about another source are other words
    assert caching.stats.prefix_hits == 40 + 16 + last
    assert caching.stats.prefix_bytes > 0


def test_the_words_of_an_answer_are_known_when_the_conversation_goes_on(small: Callable[..., Loaded]) -> None:
    for name in ("gpt2", "gru"):
        engine = _engine(small, name, context=200)
        scheduler = Scheduler(engine, prefixes=1e8)
        first = scheduler.submit(_request(engine, b"A question", max_tokens=70))
        _finish(scheduler)
        again = Request((*first.sequence.ids[:-1], *b"Another"), 5, GREEDY)
        ticket = scheduler.submit(again)
        _finish(scheduler)
        assert scheduler.stats.prefix_hits == 64
        assert ticket.sequence.new_ids == _alone(engine, again)


def test_equal_prompts_are_read_once(small: Callable[..., Loaded]) -> None:
    engine = _engine(small, "gpt2")
    scheduler = Scheduler(engine, slots=3)
    tickets = [scheduler.submit(_request(engine, b"Once upon", sampling=Sampling(1.0), seed=seed)) for seed in range(3)]
    _finish(scheduler)
    assert scheduler.stats.prompt_tokens == 10
    assert len(set(map(tuple, _ids(tickets)))) == 3
    assert _ids(tickets) == [_alone(engine, t.request) for t in tickets]


def test_a_long_prompt_stalls_nobody(small: Callable[..., Loaded]) -> None:
    engine = _engine(small, "llama", context=2000)
    scheduler = Scheduler(engine, slots=4, chunk=16)
    running = scheduler.submit(_request(engine, b"short", max_tokens=60))
    scheduler.step()
    long = scheduler.submit(_request(engine, b"long" * 100, max_tokens=2))
    scheduler.step()
    late = scheduler.submit(_request(engine, b"late", max_tokens=3))
    steps, seen = 0, {}
    while long.sequence.finish is None:
        steps += 1
        before = scheduler.stats.prompt_tokens
        for event in scheduler.step():
            seen.setdefault(event.ticket, steps)
        assert scheduler.stats.prompt_tokens - before <= 16
        assert seen[running] == 1
    assert 401 // 16 <= steps <= 401 // 16 + 5 and len(running.sequence.new_ids) >= steps
    assert seen[late] <= 4  # neither does it wait for the whole of the long prompt
    _finish(scheduler)
    assert late.sequence.new_ids == _alone(engine, late.request)


def test_cancelling_frees_wherever_a_request_is(small: Callable[..., Loaded]) -> None:
    engine = _engine(small, "llama", context=2000)
    scheduler = Scheduler(engine, slots=2, chunk=8)
    running = scheduler.submit(_request(engine, b"abc", max_tokens=1000))
    scheduler.step()
    reading = scheduler.submit(_request(engine, b"x" * 100))
    scheduler.step()
    waiting = scheduler.submit(_request(engine, b"waits"))
    last = scheduler.submit(_request(engine, b"last", max_tokens=4))
    stats = scheduler.stats
    assert (stats.running, stats.reading, stats.waiting) == (1, 1, 2) and stats.state_bytes > 0
    for ticket in (running, reading, waiting):
        scheduler.cancel(ticket)
        scheduler.cancel(ticket)  # a second time does nothing
    stats = scheduler.stats
    assert (stats.running, stats.reading, stats.waiting, stats.cancelled) == (0, 0, 1, 3)
    events = scheduler.step()
    assert [e.ticket for e in events if e.finish == "cancelled"] == [running, reading, waiting]
    assert all(e.choices == () for e in events[:3])
    _finish(scheduler)
    assert last.sequence.new_ids == _alone(engine, last.request) and scheduler.stats.finished == 1


def test_deadlines(small: Callable[..., Loaded]) -> None:
    engine = _engine(small, "lstm")
    now = [0.0]
    scheduler = Scheduler(engine, slots=1, clock=lambda: now[0])
    first = scheduler.submit(_request(engine, b"a", max_tokens=100), deadline=5.0)
    second = scheduler.submit(_request(engine, b"b"), deadline=4.0)
    third = scheduler.submit(_request(engine, b"c"))
    for _ in range(10):
        now[0] += 1
        scheduler.step()
    assert first.sequence.finish == second.sequence.finish == "deadline"
    assert len(first.sequence.new_ids) == 4 and second.sequence.new_ids == []
    _finish(scheduler)
    assert third.sequence.finish == "length" and scheduler.stats.expired == 2


def test_too_many_requests_are_told_so(small: Callable[..., Loaded]) -> None:
    engine = _engine(small, "lstm")
    scheduler = Scheduler(engine, slots=1, waiting=2)
    for _ in range(2):
        scheduler.submit(_request(engine, b"a"))
    with pytest.raises(Full, match="2 requests wait"):
        scheduler.submit(_request(engine, b"a"))
    scheduler.step()
    scheduler.submit(_request(engine, b"a"))


def test_owners_take_turns(small: Callable[..., Loaded]) -> None:
    engine = _engine(small, "lstm")
    scheduler = Scheduler(engine, slots=1)
    order = []
    for owner, count in (("many", 4), ("few", 2), ("one", 1)):
        for _ in range(count):
            scheduler.submit(_request(engine, b"a", max_tokens=1), owner=owner)
    while scheduler.busy:
        order += [event.ticket.owner for event in scheduler.step()]
    assert order == ["many", "few", "one", "many", "few", "many", "many"]


@pytest.mark.parametrize("name", ["llama", "lstm", "transformer"])
def test_states_keep_within_the_memory(small: Callable[..., Loaded], name: str) -> None:
    engine = _engine(small, name)
    requests = [_request(engine, b"y" * (1 + 5 * (i % 4)), max_tokens=30 - 7 * (i % 3)) for i in range(10)]
    alone = [_alone(engine, request) for request in requests]
    one = engine.layout.nbytes(1, max(len(r.ids) + r.max_tokens for r in requests), max(len(r.source or ()) for r in requests))
    scheduler = Scheduler(engine, slots=8, memory=5 * one)
    tickets = [scheduler.submit(request) for request in requests]
    most = 0
    while scheduler.busy:
        scheduler.step()
        assert scheduler.stats.state_bytes <= 5 * one
        most = max(most, scheduler.stats.running)
    assert 2 <= most < 8 and _ids(tickets) == alone
    with pytest.raises(ValueError, match="give the states more memory"):
        Scheduler(engine, memory=0.9 * engine.layout.nbytes(1, 10, 2)).submit(requests[0])


def test_what_can_never_be_served_is_refused(small: Callable[..., Loaded]) -> None:
    engine = _engine(small, "gpt2", context=16)
    scheduler = Scheduler(engine, room=20)
    with pytest.raises(ValueError, match="17 tokens and this model has positions for 16"):
        scheduler.submit(_request(engine, b"0123456789abcdef"))
    with pytest.raises(ValueError, match="need room for 21, and there is room for 20"):
        scheduler.submit(_request(engine, b"0123456789", max_tokens=10))
    with pytest.raises(ValueError, match="needs a source"):
        scheduler.submit(Request((256,), source=(1,)))
    for name in ("slots", "chunk", "waiting"):
        with pytest.raises(ValueError, match=f"{name} 0 must be at least 1"):
            Scheduler(engine, **{name: 0})
    assert not scheduler.busy and scheduler.step() == []


@pytest.mark.parametrize("prefixes", [0.0, 1e8])
def test_a_crowd_that_outgrows_a_table_of_positions(small: Callable[..., Loaded], prefixes: float) -> None:
    engine = _engine(small, "gpt2", context=16)
    requests = [_request(engine, text[:13], max_tokens=25 + i) for i, text in enumerate(TEXTS)]
    alone = [_alone(engine, request) for request in requests]
    scheduler = Scheduler(engine, slots=4, chunk=6, prefixes=prefixes)
    tickets = [scheduler.submit(request) for request in requests]
    _finish(scheduler)
    assert _ids(tickets) == alone
    assert all(t.sequence.first > 0 for t in tickets)


class Pairs(Plain):
    """Two tokens in a step, one after the other."""

    spare = 1

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def join(self, sequences: Sequence[Row]) -> None:
        self.rows += sequences

    def leave(self, row: int) -> None:
        last = self.rows.pop()
        if row < len(self.rows):
            self.rows[row] = last

    def step(self, engine: Engine, state: State, sequences: Sequence[Row]) -> list[list[Choice]]:
        assert all(a is b for a, b in zip(self.rows, sequences, strict=True))
        first = engine.read([[s.ids[-1]] for s in sequences], state).argmax(-1).tolist()
        second = engine.read([[token] for token in first], state).argmax(-1).tolist()
        return [[Choice(a), Choice(b)] for a, b in zip(first, second)]


@pytest.mark.parametrize("name", ["llama", "gru"])
def test_a_decoder_may_give_several_tokens(small: Callable[..., Loaded], name: str) -> None:
    engine = _engine(small, name)
    requests = [_request(engine, text, max_tokens=6 + i) for i, text in enumerate(TEXTS)]
    scheduler = Scheduler(engine, slots=3, decoder=Pairs(), prefixes=1e8)
    tickets = [scheduler.submit(request) for request in requests]
    events = _finish(scheduler)
    assert _ids(tickets) == [_alone(engine, request) for request in requests]
    for ticket in tickets:
        own = [e for e in events if e.ticket is ticket]
        assert [c.id for e in own for c in e.choices] == ticket.sequence.new_ids
        assert "".join(e.piece for e in own) == ticket.sequence.text
        assert [e.finish for e in own] == [None] * (len(own) - 1) + [ticket.sequence.finish]
    assert max(len(e.choices) for e in events) == 2
    assert scheduler.stats.new_tokens == sum(map(len, _ids(tickets)))


def test_a_step_is_for_inference_only(small: Callable[..., Loaded]) -> None:
    engine = _engine(small, "gpt2")
    scheduler = Scheduler(engine)
    scheduler.submit(_request(engine, b"a"))
    with torch.enable_grad():
        scheduler.step()
    assert all(p.grad is None for p in engine.model.parameters())
