"""`genus predict`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from genus.cli.train import say

EVERY = 10.0  # seconds between lines that say how far it is


@dataclass(frozen=True)
class Options:
    """Label the rows of FILE with a run that `genus tune` made, or a classifier in Hugging Face layout.

    FILE is of any kind that `genus tune` reads, .txt (one text a line) too, or - for standard input. Every row is kept, with all
    its columns, in its order; new columns hold the prediction and its probability, and `error` says why a row has none. Rows that
    have a label of their own are scored.
    """

    run: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN|FOLDER")]
    """tuned run, or classifier's folder"""
    file: Annotated[Positional[str], tyro.conf.arg(metavar="FILE")]
    """rows to label; - = standard input"""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """.jsonl, .csv or .tsv file to write (also .gz); default: JSON lines on standard output"""
    text: str | None = None
    """what FILE calls the column that is read, if it has another name"""
    pair: str | None = None
    """the same for the second text"""
    beam: int | None = None
    """where texts are written: search with a beam of this width for the most probable one; default: token by token"""
    length_penalty: float = 0.6
    """of the beam search: a text of n tokens is ranked by log p / ((5 + n) / 6) ^ length_penalty"""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """precision of the activations"""


def main(options: Options) -> int:
    from genus.generate.beam import Beam
    from genus.train.threads import settle
    from genus.tune.predict import predict

    settle(say)
    beam = None if options.beam is None else Beam(options.beam, options.length_penalty)
    wishes = {"text": options.text, "pair": options.pair, "dtype": options.dtype, "beam": beam}
    predict(options.run, options.file, options.out, **wishes, say=say, advance=telling())  # type: ignore[arg-type]
    return 0


def telling() -> Callable[[int], None]:
    """Says now and then how many rows are done."""
    begin = last = time.monotonic()

    def advance(rows: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= EVERY:
            say(f"{rows:,} rows, {rows / (now - begin):,.0f} a second")
            last = now

    return advance
