"""Report: one self-contained HTML page for a run, a comparison of runs, or a prepared data folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genus.verb import make_callable


def report(runs: Sequence[str | Path], output: str | Path | None = None, language: str = "en") -> Path:
    """Write the page of one run, of several side by side, or of a folder that `genus prepare` made, and return its path.

    Args:
        runs: runs, or one data folder.
        output: default `report.html` inside a single run or data folder, or in the working directory for several runs.

    Raises:
        FileNotFoundError: a path is not a run. ValueError: a data folder among several paths.
    """
    from genus.report.data_read import is_data
    from genus.report.page import page
    from genus.report.read import read_all
    from genus.run import write_atomic

    paths = [Path(run) for run in runs]
    target = Path(output) if output else (paths[0] / "report.html" if len(paths) == 1 else Path("report.html"))
    prepared = [path for path in paths if is_data(path)]
    if prepared and len(paths) > 1:
        raise ValueError(f"{prepared[0]} is prepared data, which has a page of its own: genus report {prepared[0]}")
    text = _data_page(paths[0], language) if prepared else page(read_all(paths), language)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, text)
    return target


def _data_page(path: Path, language: str) -> str:
    from genus.report.data_page import page
    from genus.report.data_read import read_data

    return page(read_data(path), language)


make_callable(__name__)
