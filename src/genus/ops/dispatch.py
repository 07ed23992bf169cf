"""The one place where an operation chooses how to run.

An `Op` owns a readable reference and an ordered list of faster paths. The first path whose condition holds for the arguments
runs; the reference runs otherwise. Nothing outside `ops/` ever asks which path is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

OPS: dict[str, Op] = {}
_forced: dict[str, str] = {}


class Op(Generic[P, R]):
    """An operation: `op(...)` runs the first path that applies, `op.reference(...)` the readable definition."""

    def __init__(self, reference: Callable[P, R]) -> None:
        self.reference = reference
        self.name = reference.__name__
        self.__doc__ = reference.__doc__
        self.paths: dict[str, tuple[Callable[P, bool], Callable[P, R]]] = {}
        OPS[self.name] = self

    def path(self, name: str, when: Callable[P, bool]) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorator that adds a faster path, tried in the order of definition, used where `when(*args)` holds."""

        def add(function: Callable[P, R]) -> Callable[P, R]:
            self.paths[name] = (when, function)
            return function

        return add

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
        name = self.chosen(*args, **kwargs)
        return self.reference(*args, **kwargs) if name == "reference" else self.paths[name][1](*args, **kwargs)


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
