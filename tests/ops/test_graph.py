"""What a GPU captures, without one: the order of things around a capture, and what may not be in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from genus.ops.graph import Graphs, Waitless
from genus.ops.tape import Unrecordable

X = torch.arange(6.0).view(2, 3)


@pytest.mark.parametrize(
    "work",
    [
        lambda: X.sum().item(),
        lambda: int(X.max()),
        lambda: bool((X > 2).any()),
        lambda: X.nonzero(),
        lambda: X[X > 2],
        lambda: torch.bincount(X.flatten().long()),
        lambda: X.repeat_interleave(torch.tensor([1, 2]), 0),
        lambda: X.unique(),
        lambda: X.to("meta"),
    ],
)
def test_what_waits_is_refused(work: Callable[[], Any]) -> None:
    with torch.inference_mode(), pytest.raises(Unrecordable, match=r"wait|memory"), Waitless():
        work()


def test_what_does_not_wait_is_computed() -> None:
    with torch.inference_mode(), Waitless():
        found = torch.where(X > 2, X.softmax(-1), 0.0) @ X.mT
        found[torch.arange(2), torch.arange(2)] = X[:, 0].repeat_interleave(1)
    assert found.shape == (2, 2) and found[1, 1] == 3


class Said:
    """In the place of `torch.cuda`: notes what is asked of it."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.notes: list[str] = []
        self.fails = fails
        self.CUDAGraph = lambda: SimpleNamespace(replay=lambda: self.notes.append("launch"))
        self.current_stream = lambda: self._stream("here")
        self.Stream = lambda: self._stream("aside")
        self.graph_pool_handle = lambda: self.notes.append("pool") or "pool"  # type: ignore[func-returns-value]

    def _stream(self, name: str) -> Any:
        return SimpleNamespace(name=name, wait_stream=lambda other: self.notes.append(f"{name} after {other.name}"))

    @contextmanager
    def device(self, which: Any) -> Iterator[None]:
        yield

    @contextmanager
    def stream(self, which: Any) -> Iterator[None]:
        self.notes.append(f"on {which.name}")
        yield

    @contextmanager
    def graph(self, graph: Any, pool: str, stream: Any, capture_error_mode: str) -> Iterator[None]:
        self.notes.append(f"capture {pool} {stream.name}")
        yield
        if self.fails is not None:
            raise self.fails


def test_a_capture_comes_after_runs_on_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Said()
    monkeypatch.setattr(torch, "cuda", said)
    graphs = Graphs(torch.device("cuda"))

    def work() -> list[Tensor]:
        said.notes.append("work")
        return [X + 1]

    replay, (found,) = graphs.capture(work)
    replay()
    assert torch.equal(found, X + 1)
    before = ["aside after here", "on aside", "work", "work", "here after aside"]
    assert said.notes == [*before, "pool", "capture pool aside", "work", "here after aside", "launch"]
    said.notes.clear()
    graphs.capture(work)
    assert "pool" not in said.notes  # all share one


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted\nmore"), torch.OutOfMemoryError("no memory left")])
def test_a_capture_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    said = Said(error)
    monkeypatch.setattr(torch, "cuda", said)
    with pytest.raises(Unrecordable, match=str(error).splitlines()[0] + "$"):
        Graphs(torch.device("cuda")).capture(lambda: [X])
    assert said.notes[-1] == "here after aside"
    with pytest.raises(Unrecordable, match="wait"):
        Graphs(torch.device("cuda")).capture(lambda: [X.nonzero()])
