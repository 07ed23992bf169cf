"""Turn the documents that the last round left into tokens, split by split."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import IO

import numpy as np

from genus.modalities.text import Tokenizer
from genus.prepare.batches import SOURCE_TEXT, TEXT, read_store
from genus.prepare.dataset import SPLITS, sha256
from genus.prepare.plan import Plan
from genus.prepare.quarantine import MIXTURE, REPEATS, Rejections
from genus.prepare.rounds import last_stage
from genus.prepare.splits import CUT, REPEAT, TRAIN
from genus.prepare.workspace import Workspace, appearing

STAGE = "encode"
BATCH_CHARACTERS = 2**20

REPEATED = "repeated document"
BEYOND = "beyond its source's share"


def dtype_for(vocab_size: int) -> np.dtype:
    """The smallest unsigned integers that hold every id."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)


def encode_unit(space: Workspace, plan: Plan, unit: int) -> None:
    """Write `encode-UNIT.SPLIT.tokens` (raw ids) and one .npz with the lengths and bytes of the documents.

    Pairs have their sources beside them, as a split of its own called `SPLIT-source`.
    """
    names = sides(plan.pairs)
    folder = space.folder / "tokenizer"
    tokenizer = _tokenizer(folder, "".join(map(sha256, sorted(folder.iterdir()))))
    with ExitStack() as stack:
        rejections = stack.enter_context(Rejections.writing(space.file(STAGE, unit, "rejected")))
        writers = {
            name: _Writer(
                stack.enter_context(open(stack.enter_context(appearing(space.file(STAGE, unit, f"{name}.tokens"))), "w+b")),
                tokenizer,
                dtype_for(tokenizer.vocab_size),
            )
            for name in names
        }
        for piece in _pieces(space, plan, unit, rejections):
            writers[SPLITS[piece.split]].add(piece.text, piece.source, piece.copies)
            if piece.translated is not None:
                writers[f"{SPLITS[piece.split]}-source"].add(piece.translated, piece.source, piece.copies)
        for writer in writers.values():
            writer.finish()
    arrays = {}
    counts: dict[str, dict[int, list[int]]] = {}
    runs: dict[str, list[list[int]]] = {}
    for name, writer in writers.items():
        arrays[f"{name}_lengths"] = np.array(writer.lengths, dtype=np.int64)
        arrays[f"{name}_bytes"] = np.array(writer.sizes, dtype=np.int64)
        arrays[f"{name}_characters"] = np.array([sum(writer.characters)], dtype=np.int64)
        counts[name] = writer.counts()
        runs[name] = run_lengths(writer.sources)
    with appearing(space.file(STAGE, unit, "npz")) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    space.mark_done(STAGE, unit, {"counts": counts, "runs": runs})


@lru_cache(maxsize=1)
def _tokenizer(folder: Path, content: str) -> Tokenizer:
    """Kept from one unit to the next with the words it remembers, which doubles its speed. `content` changes with the files."""
    return Tokenizer.load(folder)


def run_lengths(values: Iterable[int]) -> list[list[int]]:
    """[value, how often it comes in a row], in order."""
    return [[value, sum(1 for _ in group)] for value, group in groupby(values)]


def sides(pairs: bool) -> list[str]:
    """Names of the streams of tokens: the splits, and those of their sources."""
    return [*SPLITS, *(f"{split}-source" for split in SPLITS if pairs)]


@dataclass(frozen=True)
class _Piece:
    """A text that goes into a split: a document, or a part of one that is cut. `source`: number of its file."""

    split: int
    text: str
    translated: str | None
    source: int
    copies: int


def _pieces(space: Workspace, plan: Plan, unit: int, rejections: Rejections) -> Iterator[_Piece]:
    with np.load(space.journal / f"verdicts-{unit:05d}.npz") as decided:
        verdicts, cuts, copies = decided["verdicts"].tolist(), decided["cuts"], decided["copies"].tolist()
    position = 0
    for batch in read_store(space.file(last_stage(plan.steps), unit, "arrow")):
        texts = batch.column(TEXT).to_pylist()
        translated = batch.column(SOURCE_TEXT).to_pylist() if plan.pairs else [None] * len(texts)
        for at, (text, part) in enumerate(zip(texts, batch.column("part").to_pylist(), strict=True)):
            source, verdict, times = plan.units[unit][part].source, verdicts[position], copies[position]
            if verdict == REPEAT:
                rejections.drop(REPEATS, batch, at, REPEATED, text)
            elif verdict in (TRAIN, CUT) and not times:
                rejections.drop(MIXTURE, batch, at, BEYOND, text)
            if verdict == CUT:
                train, held = map(int, cuts[position])
                for split, piece in enumerate((text[:train], text[train:held], text[held:])):
                    if piece:
                        yield _Piece(split, piece, None, source, times if split == TRAIN else 1)
            elif verdict != REPEAT:
                yield _Piece(verdict, text, translated[at], source, times if verdict == TRAIN else 1)
            position += 1
    assert position == len(verdicts), "the journal holds other documents than were decided on"


@dataclass
class _Writer:
    """Collects texts of one split and appends their tokens to a file in batches; at the end, the further copies of some."""

    file: IO[bytes]
    tokenizer: Tokenizer
    dtype: np.dtype
    lengths: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    characters: array[int] = field(default_factory=lambda: array("q"))
    sources: array[int] = field(default_factory=lambda: array("q"))
    copies: array[int] = field(default_factory=lambda: array("q"))
    _texts: list[str] = field(default_factory=list)
    _waiting: int = 0

    def add(self, text: str, source: int, copies: int) -> None:
        if not copies:
            return
        self._texts.append(text)
        self.sources.append(source)
        self.copies.append(copies)
        self._waiting += len(text)
        if self._waiting >= BATCH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if not self._texts:
            return
        ids, lengths = self.tokenizer.encode_documents(self._texts)
        self.file.write(ids.astype(self.dtype).tobytes())
        self.lengths.extend(lengths)
        self.sizes.extend(len(text) if text.isascii() else len(text.encode()) for text in self._texts)
        self.characters.extend(map(len, self._texts))
        self._texts, self._waiting = [], 0

    def counts(self) -> dict[int, list[int]]:
        """Of every source: documents, bytes and tokens, copies counted."""
        found: dict[int, list[int]] = {}
        for source, size, length in zip(self.sources, self.sizes, self.lengths, strict=True):
            known = found.setdefault(source, [0, 0, 0])
            known[:] = known[0] + 1, known[1] + size, known[2] + length
        return found

    def finish(self) -> None:
        """Write what is waiting, then the second copies of all documents that have one, then the third: far from each other."""
        self._flush()
        wanted = np.array(self.copies, dtype=np.int64)
        if not len(wanted) or wanted.max() == 1:
            return
        ends = np.cumsum(np.array(self.lengths, dtype=np.int64))
        for number in range(2, int(wanted.max()) + 1):
            for i in np.flatnonzero(wanted >= number).tolist():
                self.file.seek((int(ends[i]) - self.lengths[i]) * self.dtype.itemsize)
                ids = self.file.read(self.lengths[i] * self.dtype.itemsize)
                self.file.seek(0, 2)
                self.file.write(ids)
                for column in (self.lengths, self.sizes, self.characters, self.sources):
                    column.append(column[i])
