"""Values of settings: what a user wrote, on the command line or in YAML, made the type that a field asks for."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any

from genus.spec import nearest


def value_for(given: Any, hint: Any, name: str) -> Any:
    """The value of a field.

    Args:
        given: text from the command line (tuples joined by +), or what YAML or JSON made of it.
        hint: the type of the field: bool, int, float, str, Literal, a tuple of one of these, or one of these or None.
        name: how to call the setting in messages.

    Raises:
        ValueError: it does not fit.
    """
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if type(None) in options and (given is None or (isinstance(given, str) and given.lower() == "none")):
        return None
    for option in options:
        if option is not type(None):
            try:
                return _one(given, option)
            except _DoesNotFit:
                continue
    wanted = " or ".join(_called(option) for option in options)
    told = f"{name}={given}" if isinstance(given, str) else f"{name}: {given!r}"
    remedy = nearest(str(given), typing.get_args(options[0])) if typing.get_origin(options[0]) is typing.Literal else ""
    if isinstance(given, bool) or (isinstance(given, Sequence) and any(isinstance(each, bool) for each in given)):
        remedy = remedy or ' (YAML reads yes, no, on and off as truth values: put text between quotes, "no")'
    raise ValueError(f"{told}: expected {wanted}{remedy}")


class _DoesNotFit(Exception):
    pass


def _one(given: Any, option: Any) -> Any:
    if typing.get_origin(option) is tuple:
        inner = typing.get_args(option)[0]
        entries = given.split("+") if isinstance(given, str) else given
        if not isinstance(entries, Sequence):
            entries = [given]
        return tuple(_one(each.strip() if isinstance(each, str) else each, inner) for each in entries if each != "")
    if typing.get_origin(option) is typing.Literal:
        choices = {str(choice): choice for choice in typing.get_args(option)}
        if str(given) in choices:
            return choices[str(given)]
        raise _DoesNotFit
    if option is bool:
        return _truth(given)
    if option in (int, float) and not isinstance(given, bool) and isinstance(given, str | int | float):
        return _number(given, option)
    if option is str and isinstance(given, str):
        return given
    raise _DoesNotFit


def _truth(given: Any) -> bool:
    if isinstance(given, bool):
        return given
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if isinstance(given, str) and given.lower() in known:
        return known[given.lower()]
    raise _DoesNotFit


def _number(given: str | int | float, option: type) -> int | float:
    try:
        if option is float:
            return float(given)
        if isinstance(given, str):
            return int(given.replace("_", ""))
    except ValueError:
        raise _DoesNotFit from None
    if given != int(given):
        raise _DoesNotFit
    return int(given)


def _called(option: Any) -> str:
    origin, inner = typing.get_origin(option), typing.get_args(option)
    if origin is tuple:
        return f"a list of {_called(inner[0])}"
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, inner))
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "none"}
    return names.get(option, str(option))
