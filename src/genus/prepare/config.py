"""The YAML file of `genus prepare --config`: a mixture of sources, and steps with their settings.

sources:
  - {name: web, path: crawl/, weight: 0.9}
  - {name: poems, path: poems.txt, weight: 0.1, epochs: 4, cap: 20MB}
steps: [unicode, {language: {keep: [en, zh]}}, gopher, near-duplicates]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from genus.spec import nearest


class Config(NamedTuple):
    """What `prepare(sources=..., steps=...)` takes."""

    sources: list[Any]
    steps: list[Any]


def load(path: str | Path) -> Config:
    """Read such a file. Paths in it are relative to the folder the command is run in, like those on the command line.

    Raises:
        ValueError: not there, no YAML, or neither sources nor steps; says what is wrong.
    """
    import yaml

    try:
        told = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--config {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"--config {path} is not YAML: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"--config {path}: write sources: [...] and steps: [...]")
    known = Config._fields
    for key, value in told.items():
        if key not in known:
            raise ValueError(f"--config {path}: no entry {key!r}{nearest(str(key), known)}")
        if not isinstance(value, list):
            raise ValueError(f"--config {path}: {key} is a list, such as {key}: [...]")
    return Config(told.get("sources", []), told.get("steps", []))
