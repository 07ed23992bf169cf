"""What a plan had settled before it was stopped: the same command then asks for the same small runs; finished ones are free.

Without it, a design made from another measurement of the machine would ask for runs of other sizes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from genus import __version__
from genus.plan.design.cells import Cell
from genus.plan.options import PlanOptions
from genus.plan.store import plain
from genus.run import write_atomic

FILE = "begun.json"


@dataclass
class Begun:
    """What has been decided so far.

    Attributes:
        ceiling: operations per second of a matrix product, measured at the start. batch: rows per update.
        first: cells by branch, designed before the pilot, which takes its sizes from them. cells: of the sweep, designed after
            it, when speeds are known; None before. reasons: of the branches that have none. identifiability: by branch, of the
            cells, computed before they were paid for.
    """

    ceiling: float
    batch: int
    first: dict[str, list[Cell]]
    cells: dict[str, list[Cell]] | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    identifiability: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, wish: Mapping[str, Any]) -> Begun | None:
        """What the folder holds; None when it holds nothing, or what another wish led to."""
        try:
            content = json.loads((folder / FILE).read_text(encoding="utf-8"))
            if content.pop("wish") != plain(wish):
                return None
            for name in ("first", "cells"):
                if content[name] is not None:
                    content[name] = {branch: [_cell(c) for c in group] for branch, group in content[name].items()}
            return cls(**content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, folder: Path, wish: Mapping[str, Any]) -> None:
        """Keep it, with the wish that led to it."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / FILE, json.dumps(plain({"wish": wish, **asdict(self)}), indent=1, ensure_ascii=False) + "\n")


def wish(fingerprint: str, seconds: float, options: PlanOptions, branches: Sequence[str]) -> dict[str, Any]:
    """Everything that decides a design."""
    return {
        "genus": __version__,
        "fingerprint": fingerprint,
        "seconds": seconds,
        "options": options.to_json(),
        "branches": list(branches),
    }


def _cell(content: dict[str, Any]) -> Cell:
    return Cell(**{**content, "horizons": tuple(content["horizons"])})
