"""Leave out what evaluation sets hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from genus.prepare.batches import TEXT, columns, held_out
from genus.prepare.items import EXCERPT
from genus.prepare.steps.layout import SYMBOL, Layout
from genus.prepare.steps.step import BEFORE, Function, Outcome, Step, follow, keep, replace_text
from genus.prepare.words import find_words

if TYPE_CHECKING:
    import pyarrow as pa

    from genus.prepare.evaluation_sets import Index, Repeats

REASON = "overlaps an evaluation set"
CUT = "overlap with an evaluation set cut out"

AROUND = 200
"""Characters that go with a stretch, on both sides (Brown et al. 2020, appendix C)."""
SHORTEST_PIECE = 200
"""Characters of the pieces that are kept (the same)."""
MOST_PIECES = 10
"""A document that would fall into more pieces is left out (the same)."""


@dataclass(frozen=True)
class Decontaminate(Step):
    """Leave out documents that repeat 13 words in a row of an evaluation set, or cut the stretch out of them.

    Words are compared in small letters and without punctuation; a Chinese character is a word. Ready-made validation and test
    sets stay as they are. The index of the sets takes about 30 bytes of memory for each of their words, in every process.

    Attributes:
        sets: files, folders, globs or prepared folders (their validation and test splits). fields: of records; all when empty.
        words: length of a run that counts. shortest: texts of fewer words than that count as a whole, from so many words on.
        remove: the document, or the stretch with 200 characters on both sides, as GPT-3 did; then pieces of fewer than 200
            characters go too, and documents that fall into more than ten pieces. Of pairs always the whole.
    """

    NAME: ClassVar[str] = "decontaminate"
    PAIRS: ClassVar[bool] = True

    sets: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    words: int = 13
    shortest: int = 8
    remove: Literal["document", "stretch"] = "document"

    def __post_init__(self) -> None:
        if not 2 <= self.shortest <= self.words:
            raise ValueError(f"decontaminate: shortest={self.shortest} and words={self.words}: give 2 <= shortest <= words")

    def _named(self) -> tuple[str, ...]:
        if not self.sets:
            raise ValueError("decontaminate: name the evaluation sets, such as decontaminate:sets=test.jsonl+DATA")
        return self.sets

    def reads(self) -> tuple[str, ...]:
        from genus.prepare.dataset import MANIFEST
        from genus.prepare.workspace import is_dataset

        return tuple(str(Path(path) / MANIFEST) if is_dataset(Path(path)) else path for path in self._named())

    def ready(self) -> Function:
        from genus.prepare.evaluation_sets import Index, texts_of

        index = Index.build(((path, texts_of(path, self.fields)) for path in self._named()), self.words, self.shortest)
        if not len(index):
            raise ValueError(
                f"decontaminate: {index.texts:,} texts in {', '.join(self.sets)}, none of {self.shortest} words or more: "
                "look whether these are the evaluation sets, or set shortest lower"
            )

        def clean(batch: pa.RecordBatch) -> Outcome:
            outcome = Outcome(batch, [], [], {})
            for column in columns(batch):
                whole = self.remove == "document" or len(columns(batch)) > 1
                outcome = follow(outcome, lambda left, column=column, whole=whole: _clean(left, column, index, whole))  # type: ignore[misc]
            return outcome

        return clean


def _clean(batch: pa.RecordBatch, column: str, index: Index, whole: bool) -> Outcome:
    found = index.repeats(batch.column(column))
    found = found.where(~held_out(batch)[found.texts])
    if not len(found.texts):
        return Outcome(batch, [], [], {})
    counts = _counts(found, index)
    reasons: list[str | None] = [None] * batch.num_rows
    texts: list[str | None] = [None] * batch.num_rows
    excerpts: dict[int, str] = {}
    for i in np.unique(found.texts).tolist():
        text = batch.column(column)[i].as_py()
        here = found.texts == i
        stretches = _places(text, found.begins[here], found.ends[here])
        start = max(0, stretches[0][0] - BEFORE)
        excerpts[i] = ("…" if start else "") + text[start : start + EXCERPT]
        if not whole:
            texts[i] = without(text, stretches)
        reasons[i] = REASON if texts[i] is None else None
    outcome = keep(batch, reasons, excerpts=excerpts, counts=counts)
    left = [text for text, reason in zip(texts, reasons) if reason is None]
    return follow(outcome, lambda rest: replace_text(rest, left, CUT, TEXT))


def _counts(found: Repeats, index: Index) -> dict[str, int | float]:
    """How many documents repeat something of every set."""
    pairs = np.unique(np.stack([found.texts, found.sets.astype(np.int64)]), axis=1)
    return {f"of {index.labels[number]}": n for number, n in Counter(pairs[1].tolist()).items()}


def _places(text: str, begins: np.ndarray, ends: np.ndarray) -> list[tuple[int, int]]:
    """Where runs of words lie, in characters: (first, one after the last), merged and in order."""
    import pyarrow as pa

    column = pa.array([text], type=pa.large_string())
    layout, words = Layout(column), find_words(column, exact=True)
    words_only = layout.kinds[words.begins] > SYMBOL  # what `find_words` takes for words when it need not be exact
    characters = np.cumsum((layout.data & 0xC0) != 0x80)  # of every byte, the number of characters up to it
    last = int(words_only.sum()) - 1
    starts, stops = words.begins[words_only], words.ends[words_only]
    spans = [
        (int(characters[starts[min(a, last)]]) - 1, int(characters[stops[min(b - 1, last)] - 1]))
        for a, b in sorted(zip(begins.tolist(), ends.tolist()))
    ]
    return merged(spans)


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that touch made one."""
    result: list[tuple[int, int]] = []
    for start, end in spans:
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def without(text: str, stretches: Iterable[tuple[int, int]]) -> str | None:
    """The text without stretches and what is near them, its pieces put together as paragraphs; None when too little is left."""
    cuts = merged((max(0, start - AROUND), min(len(text), end + AROUND)) for start, end in stretches)
    edges = [0, *(_between_words(text, edge) for cut in cuts for edge in cut), len(text)]
    pieces = [text[a:b].strip() for a, b in zip(edges[::2], edges[1::2])]
    pieces = [piece for piece in pieces if len(piece) >= SHORTEST_PIECE]
    return "\n\n".join(pieces) if pieces and len(cuts) + 1 <= MOST_PIECES else None


def _between_words(text: str, at: int) -> int:
    """The place itself, or of one inside a word of letters the end of that word."""
    while 0 < at < len(text) and text[at - 1].isalnum() and text[at].isalnum() and text[at].isascii():
        at += 1
    return at
