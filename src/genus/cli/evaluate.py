"""`genus evaluate`: what a model is worth on held-out text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

if TYPE_CHECKING:
    from genus.evaluate.evaluation import Evaluation

CHINESE = 0.1  # share of Chinese characters from which perplexity per character is shown
WIDTH = 100  # of the table where there is no terminal to ask


@dataclass(frozen=True)
class Options:
    """Bits per byte and perplexity of a left-to-right model on a split of prepared data, beside what counting and xz reach.

    Bits per byte can be compared across tokenizers. Every target counts once, and documents never see each other.
    """

    model: Annotated[Positional[Path], arg(metavar="RUN|FOLDER")]
    """A run, or a folder in Hugging Face layout."""
    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """A folder that genus prepare made."""
    split: Literal["validation", "test", "train"] = "validation"
    """Which split."""
    window: int | None = None
    """Positions that attention sees at once; default: the model's context, at most 2,048."""
    stride: int | None = None
    """Positions by which the window moves; default: half of the window. Smaller is slower and a little better."""
    documents: int | None = None
    """Only this many documents, evenly spaced."""
    dtype: Literal["fp32", "bf16", "auto"] = "fp32"
    """Precision of the computation; auto = bf16 where the machine multiplies it natively."""
    order: int = 5
    """Order of the n-gram beside the result."""
    alone: FlagCreatePairsOff[bool] = False
    """Measure the model alone, without the n-gram and xz."""
    batch: int = 8192
    """Positions computed at once; lower it when memory is short."""
    json: Path | None = None
    """Write everything to this file; a run always keeps its newest evaluation in RUN/evaluation.json, for its report."""
    quiet: FlagCreatePairsOff[bool] = False
    """No progress."""


def main(options: Options) -> int:
    from genus.evaluate import evaluate
    from genus.evaluate.evaluation import FILE
    from genus.ops.memory import keep_freed_memory
    from genus.prepare.progress import Progress
    from genus.run import CONFIG

    keep_freed_memory()
    result = evaluate(
        options.model,
        options.data,
        options.split,
        window=options.window,
        stride=options.stride,
        documents=options.documents,
        dtype=options.dtype,
        beside=not options.alone,
        order=options.order,
        batch=options.batch,
        progress=Progress("none" if options.quiet else "auto"),
    )
    if (options.model / CONFIG).is_file():
        result.write(options.model / FILE)
    if options.json is not None:
        result.write(options.json)
    show(result)
    return 0


def show(result: Evaluation) -> None:
    """Print the table."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    chinese = result.chinese >= CHINESE
    plural = "" if result.documents == 1 else "s"
    console.print(
        f"{result.data}, {result.split}: {result.documents:,} document{plural}, {result.bytes:,} bytes",
        soft_wrap=True,
        highlight=False,
    )
    table = Table(box=SIMPLE)
    table.add_column("")
    for heading in ("bits per byte", "95 %", "perplexity\nper token", "per word", *(["per char."] if chinese else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for measure in (result.model, *result.beside):
        interval = "" if measure.interval is None else f"{measure.interval[0]:.4f}–{measure.interval[1]:.4f}"
        perplexities = [measure.perplexity, measure.per_word, *([measure.per_character] if chinese else [])]
        table.add_row(measure.name, f"{measure.bits_per_byte:.4f}", interval, *map(_number, perplexities))
    console.print(table)
    lines = [f"{m.name}: {m.about}" for m in result.beside]
    if result.window:
        lines.insert(0, f"window {result.window:,}, stride {result.stride:,}, {result.dtype}")
    else:
        lines.insert(0, f"every target sees its whole document, as far as the model remembers; {result.dtype}")
    lines += result.notes
    words = f"words: what white space separates ({result.words:,})"
    lines.append(
        words
        + (f"; characters: all ({result.characters:,})" if chinese else "")
        + "; end tokens are scored, not counted as words"
    )
    for line in lines:
        console.print(f"  {line}", soft_wrap=True, highlight=False)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.2f}" if value < 10_000 else f"{value:.3g}"
