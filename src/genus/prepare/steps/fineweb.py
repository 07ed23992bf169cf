"""The rules that FineWeb added (Penedo et al. 2024, "The FineWeb Datasets", arXiv:2406.17557, section 3.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from genus.prepare.steps.layout import QUOTES, STOPS, Layout, one_of
from genus.prepare.steps.repetition import repeated
from genus.prepare.steps.rules import decide, share
from genus.prepare.steps.step import Function, Outcome, Step

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class FineWeb(Step):
    """Drop lists, menus and tables: few lines that end like sentences, many short or repeated ones (FineWeb's rules).

    Lines that are not blank count, without the white space around them. The rules about short lines and about words per line
    are for texts written with spaces; those without have theirs in the step "chinese".

    Attributes:
        punctuation: least share of lines that end in a stop or a quotation mark; a document with this share or less is dropped.
        short_lines: largest share of lines with at most `short` characters; a document with this share or more is dropped.
        repeated: of characters, the share in lines that stood before; a document with this share or more is dropped. 0.1 in
            the paper; 0.01 in its program.
        breaks: most line breaks per word.
    """

    NAME: ClassVar[str] = "fineweb"

    punctuation: float = 0.12
    short_lines: float = 0.67
    short: int = 30
    repeated: float = 0.1
    breaks: float = 0.3

    def ready(self) -> Function:
        return self._judge

    def _judge(self, batch: pa.RecordBatch) -> Outcome:
        layout = Layout(batch.column("text"))
        lines, spaced = layout.lines, layout.spaced
        lengths = layout.lengths(lines)
        finished = share(lines.total(one_of(layout.last(lines.end), STOPS + QUOTES + "…")), lines.counts)
        short = share(lines.total(lengths <= self.short), lines.counts)
        again = share(lines.total(repeated(layout, lines) * lengths), lines.total(lengths))
        breaks = share(lines.counts - 1, layout.words.counts)
        return decide(
            batch,
            [
                ("few lines that end in a stop", finished <= self.punctuation),
                ("mostly short lines", spaced & (short >= self.short_lines)),
                ("repeated lines", again >= self.repeated),
                ("few words per line", spaced & (breaks > self.breaks)),
            ],
        )
