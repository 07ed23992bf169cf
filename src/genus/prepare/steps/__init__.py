"""Cleaning steps: the list of them, and how they are named on the command line, in YAML and in JSON.

The step "near-duplicates" is the class in `near_duplicates.py` whose NAME that is; nothing of it is imported before it is asked
for. A step of one's own is named by its import path, "mypackage.steps.Shout".
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import typing
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from genus.prepare.steps.presets import PRESETS
from genus.prepare.steps.settings import value_for
from genus.prepare.steps.step import Step
from genus.spec import nearest

NAMES: tuple[str, ...] = (
    "sample",
    "unicode",
    "boilerplate",
    "language",
    "repetition",
    "gopher",
    "c4",
    "fineweb",
    "chinese",
    "near-duplicates",
    "substrings",
    "decontaminate",
    "classifier",
    "secrets",
    "personal-data",
    "limit",
)
"""Every step, in the order in which they are best run."""

_PROVIDED: dict[str, str] = {}


def provide(name: str, path: str) -> None:
    """Let a class of a higher floor, named by its import path, stand for a step that cannot do all of its work by itself.

    A plan holds the path, so that workers need not be told.
    """
    _PROVIDED[name] = path


def find(name: str) -> type[Step]:
    """The class of a step.

    Raises:
        ValueError: there is none of this name; the message tells the nearest.
    """
    if "." in name:
        return _imported(name)
    if name not in NAMES:
        raise ValueError(
            f"there is no step or preset called {name!r}{nearest(name, [*NAMES, *PRESETS])}; "
            "genus prepare --list-steps tells what each does"
        )
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return next(each for each in vars(module).values() if _is_step(each) and each.__dict__.get("NAME") == name)


def summaries() -> dict[str, str]:
    """What every step does: the first line of its documentation."""
    return {name: (inspect.getdoc(find(name)) or "").partition("\n")[0] for name in NAMES}


def defaults(name: str) -> dict[str, str]:
    """The settings of a step with what they are when nothing is said, as they are written."""
    return {each.name: _written(each.default) for each in dataclasses.fields(find(name))}


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_written, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def parse(words: Sequence[str | Mapping[str, Any]], seed: int = 0, pairs: bool = False) -> tuple[Step, ...]:
    """Steps as they are written on the command line or in YAML.

    Args:
        words: names of steps or presets, "name:field=value,field=value" (the entries of a tuple joined by +), or
            {name: {field: value}}. A step that a preset before it holds is not run twice: its place is kept, its settings change.
            One that is named again with other settings runs again.
        seed: what steps that throw dice get, unless they were given their own.
        pairs: whether the documents are pairs.

    Raises:
        ValueError: no such step or field, a value that does not fit, a step named twice with the same settings, two that write
            one column.
    """
    chosen: list[Step] = []
    given: set[str] = set()  # those that a preset brought and nothing has set since
    for word in words:
        name, settings = _split(word)
        if name in PRESETS:
            if settings:
                raise ValueError(f"{name} is a list of steps and has no settings: write those of a step after it")
            there = {step.NAME for step in chosen}
            new = [step for step in parse(PRESETS[name], seed, pairs) if step.NAME not in there]
            chosen += new
            given |= {step.NAME for step in new}
            continue
        step = _seeded(_make(name, settings), seed)
        if step.NAME in given:
            chosen = [step if each.NAME == step.NAME else each for each in chosen]
            given.remove(step.NAME)
        elif step in chosen:
            raise ValueError(f"the step {step.NAME} is named twice with the same settings: name it once")
        else:
            chosen.append(step)
    for step in chosen:
        if pairs and not step.PAIRS:
            raise ValueError(f"the step {step.NAME} cleans single texts, not pairs: leave it out")
    columns = [step.column for step in chosen]
    for step, column in zip(chosen, columns, strict=True):
        if column is not None and columns.count(column) > 1:
            raise ValueError(f"two steps {step.NAME} would both write {column}: give one a name, such as {step.NAME}:name=second")
    return tuple(chosen)


def names(chosen: Sequence[Step]) -> list[str]:
    """What steps are called in the account: by their names, the second of one name NAME-2."""
    taken: list[str] = []
    for step in chosen:
        called = (f"{step.NAME}-{number}" if number > 1 else step.NAME for number in count(1))
        taken.append(next(name for name in called if name not in taken))
    return taken


def to_json(step: Step) -> dict[str, Any]:
    """The JSON form: {"step": name, field: value, ...}."""
    cls = type(step)
    own = cls.NAME not in NAMES or find(cls.NAME) is not cls
    name = f"{cls.__module__}.{cls.__qualname__}" if own else cls.NAME
    fields = {each.name: getattr(step, each.name) for each in dataclasses.fields(step)}
    return {"step": name, **{key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}}


def from_json(value: Mapping[str, Any]) -> Step:
    """Inverse of `to_json`."""
    return _make(value["step"], {key: each for key, each in value.items() if key != "step"})


def _split(word: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(word, str):
        name, _, rest = word.partition(":")
        settings: dict[str, Any] = {}
        for each in filter(None, rest.split(",")):
            key, equals, value = each.partition("=")
            if not equals:
                raise ValueError(f"{word}: {each!r} is no setting; write field=value, such as language:keep=en+zh")
            settings[key.strip()] = value.strip()
        return name.strip(), settings
    if not isinstance(word, Mapping) or len(word) != 1:
        raise ValueError(f"{word!r} is no step: write its name, or name: {{field: value}}")
    name, told = next(iter(word.items()))
    if told is not None and not isinstance(told, Mapping):
        raise ValueError(f"{name}: {told!r} are no settings: write {name}: {{field: value}}")
    return str(name), dict(told or {})


def _make(name: str, settings: Mapping[str, Any]) -> Step:
    cls = find(_PROVIDED.get(name, name))
    fields = {each.name for each in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in settings.items():
        if key not in fields:
            hint = nearest(key, fields) if fields else "; it has none"
            raise ValueError(f"the step {name} has no setting {key!r}{hint}")
        values[key] = value_for(value, hints[key], f"{name}:{key}")
    return cls(**values)


def _seeded(step: Step, seed: int) -> Step:
    wants = getattr(step, "seed", 0) is None
    return dataclasses.replace(step, seed=seed) if wants else step  # type: ignore[call-arg]


def _imported(path: str) -> type[Step]:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"the step {path} cannot be imported ({error}): name a class as package.module.Class") from error
    if not _is_step(found):
        raise ValueError(f"{path} is no step: a step is a frozen dataclass derived from genus.prepare.steps.step.Step")
    if not re.fullmatch(r"[a-z0-9-]+", found.NAME):
        raise ValueError(f"{path}: its NAME {found.NAME!r} must consist of small letters, digits and hyphens")
    return found


def _is_step(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Step) and hasattr(value, "NAME")
