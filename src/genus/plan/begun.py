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


@dataclass(frozen=True)
class Begun:
    """A design that was made.

    Attributes:
        ceiling: operations per second of a matrix product, measured at the start. batch: rows per update.
        cells: of the sweep, by branch. reasons: of the branches that have none. identifiability: by branch, of the design,
            computed before it was paid for.
    """

    ceiling: float
    batch: int
    cells: dict[str, list[Cell]]
    reasons: dict[str, str] = field(default_factory=dict)
    identifiability: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, wish: Mapping[str, Any]) -> Begun | None:
        """What the folder holds; None when it holds nothing, or what another wish led to."""
        try:
            content = json.loads((folder / FILE).read_text(encoding="utf-8"))
            if content.pop("wish") != plain(wish):
                return None
            cells = {
                name: [Cell(**{**c, "horizons": tuple(c["horizons"])}) for c in group] for name, group in content["cells"].items()
            }
            return cls(content["ceiling"], content["batch"], cells, content["reasons"], content["identifiability"])
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
