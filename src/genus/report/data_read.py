"""What the page of a prepared data folder needs of it, whatever wrote the folder: every part of a manifest may be missing."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genus.report.bars import Bins
from genus.report.read import number
from genus.report.rejected import Example, Rule, sample

FORMAT = "genus-dataset"
EXAMPLES = 3


@dataclass(frozen=True)
class Stage:
    """What a step left, and what it dropped and changed, by reason.

    Attributes:
        bytes: None where an older folder does not say. figures: its other numbers. spreads: distributions among them,
            {name: {value: documents}}.
    """

    step: str
    documents: int
    bytes: int | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    spreads: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass
class DataFolder:
    """A prepared folder as the report sees it.

    Attributes:
        manifest: manifest.json. stages: the funnel, reading first. examples: of what the rules did.
    """

    name: str
    path: Path
    manifest: dict[str, Any]
    stages: list[Stage]
    examples: dict[Rule, list[Example]]

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """The splits that hold something."""
        return {name: split for name, split in table(self.manifest, "splits").items() if count(split, "documents")}

    def total(self, key: str) -> int:
        """A count over all splits."""
        return sum(count(split, key) for split in self.splits.values())

    @property
    def sources(self) -> list[dict[str, Any]]:
        found = self.manifest.get("sources")
        return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def is_data(path: str | Path) -> bool:
    """Whether a folder was made by `genus prepare`."""
    manifest = _manifest(Path(path))
    return manifest is not None and manifest.get("format") == FORMAT


def read_data(path: str | Path) -> DataFolder:
    """Read a prepared folder.

    Raises:
        FileNotFoundError: it is none.
    """
    path = Path(path)
    manifest = _manifest(path)
    if manifest is None or manifest.get("format") != FORMAT:
        raise FileNotFoundError(f"{path} is not a folder that genus prepare made: it has no manifest.json of its kind")
    return DataFolder(path.resolve().name, path, manifest, _stages(manifest), sample(path / "rejected", EXAMPLES))


def table(value: Any, key: str) -> dict[str, Any]:
    """The object below a key, empty when there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def count(value: Any, key: str) -> int:
    """The whole number below a key, 0 when there is none."""
    found = number(value.get(key)) if isinstance(value, dict) else None
    return 0 if found is None else int(found)


def bins(value: Any) -> Bins | None:
    """A histogram of the manifest: {"edges": [...], "counts": [...]}."""
    if not isinstance(value, dict):
        return None
    edges, counts = ([n for v in value.get(key) or [] if (n := number(v)) is not None] for key in ("edges", "counts"))
    return Bins(edges, counts) if counts and len(edges) == len(counts) + 1 else None


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _stages(manifest: dict[str, Any]) -> list[Stage]:
    funnel = manifest.get("funnel")
    if not isinstance(funnel, list):
        return _older(manifest)
    return [_stage(entry) for entry in funnel if isinstance(entry, dict)]


def _stage(entry: dict[str, Any]) -> Stage:
    figures: dict[str, Any] = {}
    spreads: dict[str, dict[str, int]] = {}
    for name, value in (table(entry, "counts") | table(entry, "facts")).items():
        about, equals, this = name.partition("=")
        if equals and isinstance(value, int):
            spreads.setdefault(about, {})[this] = value
        else:
            figures[name] = value
    size = number(entry.get("bytes"))
    return Stage(
        str(entry.get("step", "")),
        count(entry, "documents"),
        None if size is None else int(size),
        {reason: count(table(entry, "dropped"), reason) for reason in table(entry, "dropped")},
        {reason: count(table(entry, "changed"), reason) for reason in table(entry, "changed")},
        figures,
        spreads,
    )


def _older(manifest: dict[str, Any]) -> list[Stage]:
    """The funnel of a folder that was made before there were steps: reading, then exact repeats."""
    drops = table(manifest, "drops")
    repeats = count(drops, REPEATED)
    kept = sum(count(split, "documents") for split in table(manifest, "splits").values())
    read = sum(count(each, "documents") for each in manifest.get("sources") or [] if isinstance(each, dict)) or kept + repeats
    size = sum(count(split, "bytes") for split in table(manifest, "splits").values())
    unread = {reason: count(drops, reason) for reason in drops if reason != REPEATED}
    stages = [Stage("read", read, None if repeats else size, unread)]
    return [*stages, Stage("repeats", read - repeats, size, {REPEATED: repeats})] if repeats else stages


REPEATED = "repeated document"
