"""`genus report`: one HTML page for a run, or for several side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Options:
    """Write a report of one run, or compare several, as one HTML page that opens from disk without a network.

    It may be written while a run is still training.
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN ...")]
    """Run directories."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The page; default: report.html inside the run, or in the current folder for several runs."""
    language: Literal["en", "zh"] = "en"
    """Language of the labels."""


def main(options: Options) -> int:
    if not options.runs:
        raise ValueError("name at least one run directory")

    from genus.report import report

    print(report(options.runs, options.output, options.language))
    return 0
