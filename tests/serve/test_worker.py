"""The model's thread: events reach those who wait for them, and nobody else's slot is kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from genus.generate.sampling import Choice
from genus.generate.scheduler import Event, Full
from genus.serve.errors import Refused
from genus.serve.worker import Worker

LONG = 10**6  # letters: longer than any test


@dataclass
class Fake:
    """A scheduler that writes the letters of each request, one per step, and waits for `gate` before each step."""

    gate: threading.Event = field(default_factory=threading.Event)
    most: int = 4
    running: list[Any] = field(default_factory=list)
    cancelled: list[Any] = field(default_factory=list)
    steps: int = 0

    def submit(self, request: str, *, owner: str = "", deadline: float | None = None) -> Any:
        if request == "impossible":
            raise ValueError("it can never fit")
        if len(self.running) >= self.most:
            raise Full("full")
        ticket = SimpleNamespace(request=request, at=0)
        self.running.append(ticket)
        return ticket

    def cancel(self, ticket: Any) -> None:
        self.cancelled.append(ticket.request)
        self.running.remove(ticket)

    def step(self) -> list[Event]:
        assert self.gate.wait(10)
        self.steps += 1
        events = []
        for ticket in list(self.running):
            if ticket.request == "broken":
                raise ValueError("the model's output is NaN")
            letter = ticket.request[ticket.at]
            ticket.at += 1
            done = ticket.at == len(ticket.request)
            if done:
                self.running.remove(ticket)
            events.append(Event(ticket, letter, (Choice(ord(letter)),), "end" if done else None))
        return events

    @property
    def busy(self) -> bool:
        return bool(self.running)

    @property
    def stats(self) -> Any:
        return SimpleNamespace(running=len(self.running))


def play(scene: Callable[[Worker, list[Fake]], Awaitable[None]], open_gate: bool = True, **options: Any) -> None:
    """Run a scene with a worker, and stop the worker. Every scheduler that the worker makes is in the list."""
    made: list[Fake] = []

    def make() -> Any:
        made.append(Fake())
        if open_gate:
            made[-1].gate.set()
        return made[-1]

    worker = Worker("fake", make, **options)

    async def whole() -> None:
        try:
            async with asyncio.timeout(20):
                await scene(worker, made)
        finally:
            for each in made:
                each.gate.set()
            await asyncio.to_thread(worker.close)

    asyncio.run(whole())


async def text(answer: Any) -> list[str]:
    found = [""] * len(answer.tickets)
    while answer.open:
        number, event = await answer.next()
        found[number] += event.piece
    return found


def test_everybody_gets_their_own() -> None:
    async def scene(worker: Worker, made: list[Fake]) -> None:
        answers = [await worker.ask([f"text {i}", f"other {i}"]) for i in range(2)]
        assert await asyncio.gather(*map(text, answers)) == [["text 0", "other 0"], ["text 1", "other 1"]]
        assert (await worker.stats()).running == 0 and len(made) == 1

    play(scene)


def test_who_leaves_frees_the_slot_at_once() -> None:
    async def scene(worker: Worker, made: list[Fake]) -> None:
        leaving, staying = await worker.ask(["l" * LONG, "e" * LONG]), await worker.ask(["stay"])
        leaving.close()
        leaving.close()
        assert await text(staying) == ["stay"] and leaving.cancelled
        await worker.stats()  # comes after what was asked before it
        assert made[0].cancelled == ["l" * LONG, "e" * LONG] and not made[0].running

    play(scene)


def test_whoever_gives_up_while_being_submitted_leaves_nothing() -> None:
    async def scene(worker: Worker, made: list[Fake]) -> None:
        await worker.ask(["first"])  # the thread now waits at the gate, so what follows waits in the inbox
        asking = asyncio.create_task(worker.ask(["late"]))
        await asyncio.sleep(0.02)
        asking.cancel()
        made[0].gate.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await worker.stats()) is not None
        assert not [t for t in made[0].running if t.request == "late"]

    play(scene, open_gate=False)


def test_too_many_are_told_to_come_again_and_none_is_taken() -> None:
    async def scene(worker: Worker, made: list[Fake]) -> None:
        with pytest.raises(Refused) as caught:
            await worker.ask(["a"] * 5)
        assert caught.value.status == 429 and caught.value.headers["Retry-After"] and not made[0].running
        with pytest.raises(Refused) as caught:
            await worker.ask(["a", "impossible"])
        assert caught.value.status == 400 and "never fit" in caught.value.message and not made[0].running

    play(scene)


def test_a_model_that_fails_tells_everybody_and_begins_afresh() -> None:
    async def scene(worker: Worker, made: list[Fake]) -> None:
        answers = [await worker.ask(["g" * LONG]), await worker.ask(["broken"])]
        for each in answers:
            with pytest.raises(Refused) as caught:
                await text(each)
            assert caught.value.status == 500 and "NaN" in caught.value.message
        assert await text(await worker.ask(["again"])) == ["again"] and len(made) == 2

    play(scene)


def test_computing_something_else_between_steps() -> None:
    async def scene(worker: Worker, made: list[Fake]) -> None:
        answer = await worker.ask(["abcdef"])
        assert await worker.call(lambda: threading.current_thread().name) == "genus-fake"
        with pytest.raises(KeyError):
            await worker.call(lambda: {}["missing"])
        assert await text(answer) == ["abcdef"]

    play(scene)


def test_calls_take_turns_with_texts() -> None:
    async def scene(worker: Worker, made: list[Fake]) -> None:
        await worker.ask(["a" * 50])
        waiting = [asyncio.create_task(worker.call(lambda: made[0].steps)) for _ in range(3)]
        await asyncio.sleep(0.02)
        with pytest.raises(Refused, match="wait"):
            await worker.call(lambda: None)
        made[0].gate.set()
        seen = await asyncio.gather(*waiting)
        assert seen == sorted(set(seen)), "between two computations there is a step"

    play(scene, open_gate=False, waiting=3)


def test_closing_ends_what_is_open() -> None:
    async def scene(worker: Worker, made: list[Fake]) -> None:
        answer = await worker.ask(["never ends" * 1000])
        closing = asyncio.create_task(asyncio.to_thread(worker.close))
        await asyncio.sleep(0.01)
        made[0].gate.set()
        with pytest.raises(Refused) as caught:
            await text(answer)
        assert caught.value.status == 503
        await closing
        with pytest.raises(Refused):
            await worker.ask(["too late"])

    play(scene, open_gate=False)


def test_silence_is_told() -> None:
    async def scene(worker: Worker, made: list[Fake]) -> None:
        answer = await worker.ask(["a"])
        assert await answer.next(0.01) is None
        made[0].gate.set()
        assert await text(answer) == ["a"]

    play(scene, open_gate=False)
