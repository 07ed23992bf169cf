"""Tune: labels in, a run out. `genus.tune("runs/base", "labels.csv", "runs/mine")`"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genus.verb import make_callable

if TYPE_CHECKING:
    from genus.run import Run

__all__ = ["tune"]


def tune(
    base: str | Path,
    labels: str | Path,
    out: str | Path,
    *overrides: str,
    say: Callable[[str], None] | None = None,
    **options: Any,
) -> Run:
    """Tune a run, a model folder or a recipe on labelled rows.

    Args:
        base: a run, a folder in Hugging Face layout, or a recipe's name (training from the labels alone).
        labels: a table or JSON file with named columns, or a Hugging Face datasets folder. out: the run directory to make.
        overrides: sizes of a recipe, `"dim=128"`. say: told what is decided and why; None = standard error.
        options: fields of `genus.tune.options.TuneOptions`, such as method="lora", folds=5, test="test.csv".

    Raises:
        ValueError, FileExistsError: with what to do about it.
    """
    from genus.tune.options import TuneOptions
    from genus.tune.tuning import tune as start

    chosen = TuneOptions(overrides=overrides, **options)
    return start(str(base), labels, out, chosen, say or (lambda text: print(text, file=sys.stderr)))


make_callable(__name__)
