"""What there is on disk to be served, and what has changed of it: looked at, and looked at again.

A run that trains is served with its newest checkpoint, and with its model as soon as that is finished.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from genus.run import CONFIG
from genus.serve.served import Entry, Version, describe, version
from genus.serve.settings import Settings


class Seen(NamedTuple):
    """A model whose files are new, or have changed.

    Attributes:
        version: of its files. entry: what they say. problem: why there is no entry. unfinished: it is a run that
            may still get a model.
    """

    name: str
    path: Path
    version: Version
    unfinished: bool
    entry: Entry | None = None
    problem: Exception | None = None


def look(settings: Settings, before: Mapping[Path, Version], known: Mapping[str, Entry]) -> list[Seen]:
    """What is new on disk, and what has changed.

    Args:
        before: the versions that were seen at the last look. known: what is served.

    Raises:
        FileNotFoundError: there is no model at a path.
    """
    seen: list[Seen] = []
    met: dict[str, Path] = {}
    for name, path in found(settings.models):
        now: Version = ()
        unfinished = (path / CONFIG).is_file() and not (path / "model" / "config.json").is_file()
        other = met.get(name) or (known[name].path if name in known and known[name].path != path else None)
        met.setdefault(name, path)
        try:
            now = version(path)
            if now == before.get(path):
                continue
            if other is not None:
                raise ValueError(f"two models are called {name!r}: {other} and {path}; call one otherwise: other={path}")
            seen.append(Seen(name, path, now, unfinished, _fitting(describe(name, path), settings)))
        except Exception as error:  # whatever is wrong with one folder, the others are served
            seen.append(Seen(name, path, now, unfinished, problem=error))
    return seen


def _fitting(entry: Entry, settings: Settings) -> Entry:
    """Raises ValueError: the model is larger than all models together may be."""
    if settings.memory is not None and entry.bytes > settings.memory:
        raise ValueError(f"{entry.path} takes about {entry.bytes / 1e9:.2f} GB, more than --memory allows")
    return entry


def found(models: Iterable[str]) -> list[tuple[str, Path]]:
    """Name and path of every model: what was given, and for a folder that holds models, each of them.

    Raises:
        FileNotFoundError: there is none at a path.
    """
    result = []
    for each in models:
        name, _, rest = each.partition("=")
        path = Path(each)
        if rest and not path.exists():
            path = Path(rest)
        else:
            name = Path(os.path.abspath(path)).name
        if _is_model(path):
            result.append((name, path))
            continue
        inside = sorted(child for child in path.iterdir() if _is_model(child)) if path.is_dir() else []
        if not inside:
            raise FileNotFoundError(f"{path} is neither a run nor a model folder, and holds none")
        prefix = f"{name}/" if rest and path == Path(rest) else ""
        result += [(prefix + child.name, child) for child in inside]
    return result


def _is_model(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return (path / CONFIG).is_file() or (path / "config.json").is_file()
    return False
