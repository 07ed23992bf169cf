"""The family tree, a specification and a difference as text for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from genus.recipes.recipe import BRANCHES, Recipe, System, find, systems
from genus.recipes.sizes import arguments, takes
from genus.recipes.training import Counting
from genus.spec import Spec, diff

BRANCHES_ZH = {
    "counting": "计数",
    "window": "固定窗口",
    "recurrent": "循环网络",
    "encoder-decoder": "编码器–解码器",
    "encoder": "编码器",
    "decoder": "解码器",
    "fast-weights": "快速权重与线性注意力",
    "hybrid": "混合",
}

SIZES = ("dim", "depth", "heads", "vocab", "context")


def tree(language: str = "en") -> Iterator[tuple[str, str]]:
    """Lines of the family tree as (text, remark): each system below its parent, its citation as the remark of a line.

    Args:
        language: "en" or "zh".
    """
    everything = systems()
    for branch, title in BRANCHES.items():
        members = [s for s in everything if s.branch == branch]
        if not members:
            continue
        yield BRANCHES_ZH[branch] if language == "zh" else title, ""
        names = {s.name for s in members}
        roots = [s for s in members if s.parent not in names]
        yield from _branch(roots, members, "  ", language)
        yield "", ""


def _branch(level: list[System], members: list[System], indent: str, language: str) -> Iterator[tuple[str, str]]:
    for i, system in enumerate(level):
        last = i == len(level) - 1
        children = [s for s in members if s.parent == system.name]
        summary = system.summary_zh if language == "zh" else system.summary
        yield f"{indent}{'└─' if last else '├─'} {system.name} {system.year}  {summary}", ""
        below = indent + ("   " if last else "│  ")
        here = system.parent in {s.name for s in members}
        origin = "" if here or not system.parent else ("源自 " if language == "zh" else "from ") + system.parent + " · "
        yield f"{below}{'│' if children else ' '}  ", origin + system.citation
        yield from _branch(children, members, below, language)


def facts(system: System) -> dict[str, Any]:
    """Everything about a system that is a plain value."""
    hidden = ("function", "aspect", "heads_of", "depths")
    return {f.name: getattr(system, f.name) for f in dataclasses.fields(system) if f.name not in hidden}


def sized(name: str, assignments: Iterable[str]) -> Recipe:
    """The recipe at sizes written as `dim=512`.

    Raises:
        ValueError: the recipe has no such size, or the value is not of its kind.
    """
    return find(name).function(**arguments(name, assignments)).replace(name=find(name).name)


def outline(spec: Spec, label: str = "", depth: int = 0) -> Iterator[str]:
    """One line per part, indented: its place, its class, its sizes and names, and what else is not at its default."""
    plain, parts = _fields(spec)
    shown = [(k, v) for k, v in plain if v != _default(spec, k) or (v and isinstance(v, int | str) and v is not True)]
    text = "  ".join(f"{k}={value_text(v)}" for k, v in shown)
    yield f"{'  ' * depth}{label + ': ' if label else ''}{type(spec).__name__}{'  ' + text if text else ''}"
    for name, part in parts:
        yield from outline(part, name, depth + 1)


def describe(recipe: Recipe) -> Iterator[str]:
    """The specification of a recipe: what it is, how large, and every part."""
    system = find(recipe.name)
    yield f"{recipe.name} ({system.year}): {system.summary}"
    yield f"{system.title}. {system.citation}"
    origin = [f"from {system.parent}"] if system.parent else []
    origin += [f"model_type {system.hf} in Hugging Face transformers"] if system.hf else []
    if origin:
        yield "; ".join(origin)
    yield ""
    context = getattr(recipe.training, "context", None)
    counted = isinstance(recipe.training, Counting)
    size = "counted: how many parameters it has depends on the data" if counted else f"{recipe.parameters_total:,} parameters"
    work = recipe.model.flops(0, context or 1)
    yield size + (f"; {work:.3g} floating-point operations per token forward, at context {context}" if work else "")
    yield ""
    for name, part in _fields(recipe)[1]:
        yield from outline(part, name)


def differences(a: Recipe, b: Recipe) -> list[tuple[str, Any, Any]]:
    """Rows (path, value in a, value in b), `...` where there is none. A part that differs in kind is one row."""
    found = [path for path, _, _ in diff(a, b)]
    swapped = [p for p in found if any(isinstance(_at(spec, p), Spec) for spec in (a, b))]
    covered = tuple(p + "." for p in swapped)
    return [(p, _at(a, p), _at(b, p)) for p in found if p != "name" and not p.startswith(covered)]


def same_sizes(a: str, b: str, assignments: Iterable[str]) -> tuple[Recipe, Recipe, list[str]]:
    """Two recipes at one size, so that what differs is the design: the sizes given, else those of `a`. And these sizes."""
    given = dict(x.split("=", 1) for x in assignments)
    defaults = takes(find(a))
    common = {k: str(defaults[k]) for k in SIZES if isinstance(defaults.get(k), int)} | given
    allowed = {*takes(find(b)), *given}
    left = sized(a, [f"{k}={v}" for k, v in given.items()])
    return left, sized(b, [f"{k}={v}" for k, v in common.items() if k in allowed]), [f"{k}={v}" for k, v in common.items()]


def _fields(spec: Spec) -> tuple[list[tuple[str, Any]], list[tuple[str, Spec]]]:
    """The plain fields of a part, and the parts inside it (entries of a tuple as `name.0`, `name.1`)."""
    plain: list[tuple[str, Any]] = []
    parts: list[tuple[str, Spec]] = []
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, Spec):
            parts.append((field.name, value))
        elif isinstance(value, tuple) and any(isinstance(v, Spec) for v in value):
            parts += [(f"{field.name}.{i}", v) for i, v in enumerate(value)]
        else:
            plain.append((field.name, value))
    return plain, parts


def _default(spec: Spec, name: str) -> Any:
    return next(f.default for f in dataclasses.fields(spec) if f.name == name)


def _at(spec: Any, path: str) -> Any:
    """The value at a dotted path, `...` where there is none."""
    for key in path.split("."):
        if isinstance(spec, tuple):
            spec = spec[int(key)] if key.isdigit() and int(key) < len(spec) else ...
        else:
            spec = getattr(spec, key, ...)
    return spec


def value_text(value: Any) -> str:
    """A value as it is written in an override; a part with what is not default in it; `-` for `...`."""
    if isinstance(value, Spec):
        plain, parts = _fields(value)
        inside = [f"{k}={value_text(v)}" for k, v in plain if v != _default(value, k)]
        inside += [f"{k}={value_text(v)}" for k, v in parts if v != _default(value, k.partition(".")[0])]
        return type(value).__name__ + (f"({', '.join(inside)})" if inside else "")
    if isinstance(value, tuple):
        return "[" + ", ".join(map(value_text, value)) + "]"
    if value is ...:
        return "-"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{text}.0" if isinstance(value, float) and text.lstrip("-").isdigit() else text
