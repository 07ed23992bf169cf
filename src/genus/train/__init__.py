"""Train: data in, a run directory out. `genus.train("llama", "data", "runs/mine", tokens=1_000_000)`"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genus.verb import make_callable

if TYPE_CHECKING:
    from genus.run import Run

__all__ = ["train"]


def train(
    recipe: str, data: str | Path, out: str | Path, *overrides: str, say: Callable[[str], None] | None = None, **options: Any
) -> Run:
    """Train a recipe, a run or a model folder on prepared data.

    Args:
        recipe: name on the family tree, or the path of a run or a folder in Hugging Face layout. data: a folder that
            `genus prepare` made. out: the run directory to make.
        overrides: `"dim=128"`, `"model.head.tied=false"` ... say: told what is decided and why; None = standard error.
        options: fields of `genus.train.options.TrainOptions`, such as tokens=1_000_000, seconds=60, lr=1e-3.

    Raises:
        ValueError, FileExistsError: with what to do about it.
    """
    from genus.train.options import TrainOptions
    from genus.train.start import start

    chosen = TrainOptions(overrides=overrides, **options)
    return start(str(recipe), data, out, chosen, say or (lambda text: print(text, file=sys.stderr)))


make_callable(__name__)
