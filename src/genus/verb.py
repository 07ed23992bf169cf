"""Verbs are packages that can be called: `genus.prepare(...)` is the function `prepare` of the package `genus.prepare`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class Verb(ModuleType):
    """A package whose call is the call of its function of the same name."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **options)


def make_callable(package: str) -> None:
    """Let the imported package be called."""
    sys.modules[package].__class__ = Verb
