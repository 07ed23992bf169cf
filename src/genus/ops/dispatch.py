"""The one place where an operation chooses how to run.

An `Op` owns a readable reference and an ordered list of faster paths. The first path whose condition holds for the arguments
runs; the reference runs otherwise. Nothing outside `ops/` ever asks which path is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from threading import get_ident
from typing import Any, Generic, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

OPS: dict[str, Op] = {}

_forced: dict[str, str] = {}
_watchers: dict[int, Callable[[Call], None]] = {}  # by thread


class Op(Generic[P, R]):
    """An operation: `op(...)` runs the first path that applies, `op.reference(...)` the readable definition.

    `op.needed(...)` is the share of the definition's operations that the result depends on: masks hide the rest.
    """

    def __init__(self, reference: Callable[P, R]) -> None:
        self.reference = reference
        self.name = reference.__name__
        self.__doc__ = reference.__doc__
        self.paths: dict[str, tuple[Callable[P, bool], Callable[P, R]]] = {}
        self.needed: Callable[P, float] = _all
        OPS[self.name] = self

    def path(self, name: str, when: Callable[P, bool]) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorator that adds a faster path, tried in the order of definition, used where `when(*args)` holds."""

        def add(function: Callable[P, R]) -> Callable[P, R]:
            self.paths[name] = (when, function)
            return function

        return add

    def needs(self, share: Callable[P, float]) -> Callable[P, float]:
        """Decorator: the function that is `needed`. Without one, all operations are."""
        self.needed = share
        return share

    def may_take(self, name: str) -> bool:
        """Whether no other path than this is forced."""
        return _forced.get(self.name, name) == name

    def chosen(self, *args: Any, **kwargs: Any) -> str:
        """Name of the path that these arguments take."""
        forced = _forced.get(self.name)
        if forced is not None:
            return forced
        for name, (when, _) in self.paths.items():
            if when(*args, **kwargs):
                return name
        return "reference"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        see = _watchers.pop(get_ident(), None) if _watchers else None  # not there meanwhile: what it calls is its own affair
        name = self.chosen(*args, **kwargs)
        result = self.reference(*args, **kwargs) if name == "reference" else self.paths[name][1](*args, **kwargs)
        if see is not None:
            see(Call(self, signature(self.reference).bind(*args, **kwargs).arguments, result, name))
            _watchers[get_ident()] = see
        return result


def _all(*args: Any, **kwargs: Any) -> float:
    return 1.0


class Call(NamedTuple):
    """A call of an op that `watched` has seen: the op, its arguments by name (those that were given), what it returned, and the
    path that it took."""

    op: Op[..., Any]
    arguments: dict[str, Any]
    result: Any
    path: str

    def weights(self) -> Tensor:
        """(..., queries, keys) the factors by which the op mixed its values `v` (..., keys, width) into each query's output.

        An op that is linear in its values gives these factors where the values are the identity matrix; so they are the op's own,
        by its definition, whatever it makes them of.
        """
        v: Tensor = self.arguments["v"]
        one = torch.eye(v.shape[-2], dtype=v.dtype, device=v.device).expand(*v.shape[:-1], -1)
        found = self.op.reference(**(self.arguments | {"v": one}))
        return found[0] if isinstance(found, tuple) else found  # a memory comes with the output


@contextmanager
def watched(see: Callable[[Call], None]) -> Iterator[None]:
    """Within the block, `see` is told of every call of an op by this thread; of nested calls, of the outer one."""
    _watchers[get_ident()] = see
    try:
        yield
    finally:
        _watchers.pop(get_ident(), None)


@contextmanager
def forced(**choices: str) -> Iterator[None]:
    """Within the block, run the named path of each op: `with forced(attention="reference"): ...` (for tests and measurement)."""
    for name, path in choices.items():
        if path != "reference" and path not in OPS[name].paths:
            raise ValueError(f"op {name} has no path {path!r}; it has: reference, {', '.join(OPS[name].paths)}")
    before = dict(_forced)
    _forced.update(choices)
    try:
        yield
    finally:
        _forced.clear()
        _forced.update(before)
