"""`genus report`: one HTML page for a run, for several side by side, or for prepared data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Options:
    """Write a report of one run, a comparison of several, or an account of prepared data, as one HTML page that opens from disk
    without a network.

    That of a run may be written while it is still training. That of data shows what every cleaning step left and took away.
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN ...|DATA")]
    """Run directories, or one folder that genus prepare made."""
    output: Annotated[Path | None, arg(aliases=["-o"])] = None
    """The page; default: report.html inside the run or data folder, or in the current folder for several runs."""
    language: Literal["en", "zh"] = "en"
    """Language of the labels."""


def main(options: Options) -> int:
    if not options.runs:
        raise ValueError("name at least one run directory, or a prepared data folder")

    from genus.report import report

    print(report(options.runs, options.output, options.language))
    return 0
