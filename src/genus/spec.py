"""Spec: a frozen value that describes one part of a model and builds it.

A specification is a tree of frozen dataclasses. It is the only configuration mechanism: Python code, `run.json` and the command
line (`model.stack.depth=8`) all describe the same tree. Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

MAX_FIELDS = 12
REGISTRY: dict[str, type[Spec]] = {}


@dataclass(frozen=True)
class Spec:
    """Base of every part description.

    A subclass is a frozen dataclass with at most 12 fields and an inner `Module` class whose constructor takes `(spec, dim)`.
    """

    Module: ClassVar[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__ in REGISTRY and REGISTRY[cls.__name__].__module__ != cls.__module__:
            raise TypeError(f"two parts are called {cls.__name__}: {REGISTRY[cls.__name__].__module__} and {cls.__module__}")
        REGISTRY[cls.__name__] = cls

    def build(self, dim: int) -> Any:
        """The module this spec describes, for inputs of width `dim`."""
        return self.Module(self, dim)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        unknown = set(changes) - {f.name for f in dataclasses.fields(self)}
        if unknown:
            raise _unknown_field(self, sorted(unknown)[0])
        return dataclasses.replace(self, **changes)

    def width(self, dim: int) -> int:
        """Width of the output for an input of width `dim`."""
        return dim

    def parameters(self, dim: int) -> int:
        """Exact number of trainable parameters, by arithmetic."""
        return 0

    def flops(self, dim: int, length: int) -> float:
        """Floating-point operations of one forward pass per position (a multiply-add counts as two), at context `length`.

        Matrix products, convolutions, attention and state updates count; look-ups and element-wise work do not. Attention counts
        the pairs of positions that see each other, a memory its reads and writes: what is computed, not how.
        """
        return 0.0

    def mixing(self, dim: int, length: int) -> float:
        """The share of `flops` that meets no parameter: attention's scores and weighted sums, the memory of fast weights."""
        return 0.0


def to_json(value: Any) -> Any:
    """The JSON form of a spec: `{"part": class name, field: value, ...}`; tuples become lists."""
    if isinstance(value, Spec):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"part": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [to_json(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a spec may hold numbers, strings, booleans, None, tuples and specs, not {type(value).__name__}")


def from_json(value: Any) -> Any:
    """Inverse of `to_json`.

    Raises:
        ValueError: a part or a field that does not exist; the message names the nearest one.
    """
    if isinstance(value, list):
        return tuple(from_json(v) for v in value)
    if not isinstance(value, dict):
        return value
    cls = part(value.get("part", ""))
    names = {f.name for f in dataclasses.fields(cls)}
    for key in value:
        if key != "part" and key not in names:
            raise _unknown_field(cls, key)
    return cls(**{k: from_json(v) for k, v in value.items() if k != "part"})


def part(name: str) -> type[Spec]:
    """The spec class called `name`."""
    if name not in REGISTRY:
        raise ValueError(f"there is no part called {name!r}{nearest(name, REGISTRY)}")
    return REGISTRY[name]


def nearest(name: str, choices: Any) -> str:
    """`"; did you mean 'x'?"` when one of `choices` looks like `name`, else the list of choices."""
    choices = sorted(map(str, choices))
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; choose one of: {', '.join(choices)}"


def flatten(spec: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of the tree as (`path`, value). The class of a part appears under the part's own path."""
    if isinstance(spec, Spec):
        if prefix:
            yield prefix, type(spec).__name__
        for f in dataclasses.fields(spec):
            yield from flatten(getattr(spec, f.name), f"{prefix}.{f.name}" if prefix else f.name)
    elif isinstance(spec, tuple) and any(isinstance(v, Spec) for v in spec):
        for i, v in enumerate(spec):
            yield from flatten(v, f"{prefix}.{i}" if prefix else str(i))
    else:
        yield prefix, spec


def diff(a: Spec, b: Spec) -> list[tuple[str, Any, Any]]:
    """Leaves in which two specs differ: (path, value in `a`, value in `b`); a leaf that is missing on one side is `...`."""
    left, right = dict(flatten(a)), dict(flatten(b))
    paths = list(dict.fromkeys([*left, *right]))
    return [(p, left.get(p, ...), right.get(p, ...)) for p in paths if left.get(p, ...) != right.get(p, ...)]


def walk(spec: Any) -> Iterator[Spec]:
    """Every part of the tree, the root first."""
    if isinstance(spec, Spec):
        yield spec
        for f in dataclasses.fields(spec):
            yield from walk(getattr(spec, f.name))
    elif isinstance(spec, tuple):
        for v in spec:
            yield from walk(v)


def rewrite(spec: Any, change: Any) -> Any:
    """A copy of the tree with `change(part) -> part` applied to every part, leaves first.

    Rewrites such as low-rank adapters, quantisation or a causal mask for a whole stack are written once with this.
    """
    if isinstance(spec, tuple):
        return tuple(rewrite(v, change) for v in spec)
    if not isinstance(spec, Spec):
        return spec
    fields = {f.name: rewrite(getattr(spec, f.name), change) for f in dataclasses.fields(spec)}
    return change(dataclasses.replace(spec, **fields))


def override(spec: Any, path: str, text: str) -> Any:
    """A copy of `spec` with the field at dotted `path` set to the value written in `text`.

    Args:
        path: field names and tuple indices, such as `stack.blocks.0.parts.1.hidden`; `*` stands for every index.
        text: a number, `true`, `false`, `none`, a word, a list `[1, 2]`, or the class name of a part (built with its defaults).

    Raises:
        ValueError: the path does not exist (the message names the nearest field), or the text does not fit its type.
    """
    return _override(spec, path.split("."), text, path)


def apply_overrides(spec: Any, assignments: typing.Iterable[str]) -> Any:
    """`override` for each `path=value`."""
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ValueError(f"{assignment!r} is not an override; write path=value, such as model.stack.depth=8")
        spec = override(spec, path.strip(), text.strip())
    return spec


def _override(node: Any, keys: list[str], text: str, path: str) -> Any:
    key, rest = keys[0], keys[1:]
    if isinstance(node, tuple):
        if key == "*":
            return tuple(_override(v, rest, text, path) for v in node)
        if not key.isdigit() or int(key) >= len(node):
            raise ValueError(f"{path}: {key!r} is not an index; there are {len(node)} entries, 0 to {len(node) - 1}, or *")
        if not rest:
            raise ValueError(f"{path}: name a field of entry {key}")
        i = int(key)
        return (*node[:i], _override(node[i], rest, text, path), *node[i + 1 :])
    if not isinstance(node, Spec):
        raise ValueError(f"{path}: {key!r} lies below a plain value ({node!r}), which has no fields")
    if key not in {f.name for f in dataclasses.fields(node)}:
        raise _unknown_field(node, key, path)
    if rest:
        return node.replace(**{key: _override(getattr(node, key), rest, text, path)})
    return node.replace(**{key: _parse(text, _hints(type(node))[key], path)})


def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _parse(text: str, hint: Any, path: str) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if text.lower() in ("none", "null") and type(None) in options:
        return None
    if text in REGISTRY and any(o is Any or (isinstance(o, type) and issubclass(REGISTRY[text], o)) for o in options):
        return REGISTRY[text]()
    for option in options:
        try:
            return _parse_one(text, option)
        except ValueError:
            continue
    wanted = " or ".join(getattr(o, "__name__", str(o)) for o in options)
    hint_parts = [o for o in options if isinstance(o, type) and issubclass(o, Spec)]
    known = [n for n, c in REGISTRY.items() if any(issubclass(c, o) for o in hint_parts)]
    raise ValueError(f"{path}={text}: expected {wanted}{nearest(text, known) if known else ''}")


def _parse_one(text: str, option: Any) -> Any:
    if typing.get_origin(option) is typing.Literal:
        choices = {str(c): c for c in typing.get_args(option)}
        if text in choices:
            return choices[text]
        raise ValueError
    if option is bool:
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise ValueError
    if option in (int, float):
        return option(text.replace("_", ""))
    if option is str:
        return text
    if option is tuple or typing.get_origin(option) is tuple:
        values = json.loads(text)
        if not isinstance(values, list):
            raise ValueError
        return tuple(values)
    raise ValueError


def _unknown_field(owner: Any, key: str, path: str = "") -> ValueError:
    cls = owner if isinstance(owner, type) else type(owner)
    names = [f.name for f in dataclasses.fields(cls)]
    where = f"{path}: " if path else ""
    hint = nearest(key, names) if names else "; it has no fields: first set the part that has"
    return ValueError(f"{where}{cls.__name__} has no field {key!r}{hint}")
