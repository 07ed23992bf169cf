"""Report: one self-contained HTML page for a run or a comparison of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genus.verb import make_callable


def report(runs: Sequence[str | Path], output: str | Path | None = None, language: str = "en") -> Path:
    """Write the page of one run, or of several side by side, and return its path.

    Args:
        output: default `report.html` inside a single run, or in the working directory for several.

    Raises:
        FileNotFoundError: a path is not a run.
    """
    from genus.report.page import page
    from genus.report.read import read_all
    from genus.run import write_atomic

    paths = [Path(run) for run in runs]
    target = Path(output) if output else (paths[0] / "report.html" if len(paths) == 1 else Path("report.html"))
    text = page(read_all(paths), language)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, text)
    return target


make_callable(__name__)
