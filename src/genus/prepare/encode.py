"""Second pass over a unit: turn its documents into tokens, split by split."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from genus.modalities.text import Tokenizer
from genus.prepare import scan
from genus.prepare.dataset import SPLITS
from genus.prepare.items import Document
from genus.prepare.plan import Plan
from genus.prepare.splits import CUT, REPEAT
from genus.prepare.units import read
from genus.prepare.workspace import Workspace

STAGE = "encode"
BATCH_CHARACTERS = 2**20


def dtype_for(vocab_size: int) -> np.dtype:
    """The smallest unsigned integers that hold every id."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)


def encode_unit(space: Workspace, plan: Plan, unit: int) -> None:
    """Write `encode-UNIT.SPLIT.tokens` (raw ids) and one .npz with the lengths and bytes of the documents.

    Pairs have their sources beside them, as a split of its own called `SPLIT-source`.
    """
    names = sides(plan.options.get("pairs", False))
    tokenizer = Tokenizer.load(space.folder / "tokenizer")
    tokens_of_source: Counter[int] = Counter()
    with ExitStack() as stack:
        writers = {
            name: _Writer(
                stack.enter_context(open(space.file(STAGE, unit, f"{name}.tokens"), "wb")),
                tokenizer,
                dtype_for(tokenizer.vocab_size),
                tokens_of_source,
            )
            for name in names
        }
        for split, number, text, source in _assigned(space, plan, unit):
            writers[SPLITS[split]].add(text, number)
            if source is not None:
                writers[f"{SPLITS[split]}-source"].add(source, number)
        for writer in writers.values():
            writer.flush()
    arrays = {}
    for name, writer in writers.items():
        arrays[f"{name}_lengths"] = np.array(writer.lengths, dtype=np.int64)
        arrays[f"{name}_bytes"] = np.array(writer.sizes, dtype=np.int64)
        arrays[f"{name}_characters"] = np.array([writer.characters], dtype=np.int64)
    np.savez(space.file(STAGE, unit, "npz"), **arrays)  # type: ignore[arg-type]
    space.mark_done(STAGE, unit, {"tokens_of_source": {str(key): count for key, count in tokens_of_source.items()}})


def sides(pairs: bool) -> list[str]:
    """Names of the streams of tokens: the splits, and those of their sources."""
    return [*SPLITS, *(f"{split}-source" for split in SPLITS if pairs)]


def _assigned(space: Workspace, plan: Plan, unit: int) -> Iterator[tuple[int, int, str, str | None]]:
    """(split, number of the file, text, source of a pair) of the unit's documents, cut ones in their parts."""
    with np.load(space.journal / f"verdicts-{unit:05d}.npz") as decided:
        verdicts, cuts = decided["verdicts"].tolist(), decided["cuts"]
    with np.load(space.file(scan.STAGE, unit, "npz")) as known:
        digests = known["digests"].tobytes()
    count = len(verdicts)
    position = 0
    for part in plan.units[unit]:
        source = plan.sources[part.source]
        for item in read(source, part, plan.split_documents):
            if not isinstance(item, Document):
                continue
            if position >= count or item.digest != digests[16 * position : 16 * position + 16]:
                raise ValueError(f"{source.label} changed while it was being prepared: run the command again")
            verdict = verdicts[position]
            if verdict == CUT:
                train, held = map(int, cuts[position])
                pieces = (item.text[:train], item.text[train:held], item.text[held:])
                yield from ((split, part.source, piece, None) for split, piece in enumerate(pieces) if piece)
            elif verdict != REPEAT:
                yield verdict, part.source, item.text, item.source
            position += 1
    if position != count:
        raise ValueError("the sources changed while they were being prepared: run the command again")


@dataclass
class _Writer:
    """Collects texts of one split and appends their tokens to a file in batches."""

    file: BinaryIO
    tokenizer: Tokenizer
    dtype: np.dtype
    tokens_of_source: Counter[int]
    lengths: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    characters: int = 0
    _texts: list[str] = field(default_factory=list)
    _sources: list[int] = field(default_factory=list)
    _waiting: int = 0

    def add(self, text: str, source: int) -> None:
        self._texts.append(text)
        self._sources.append(source)
        self._waiting += len(text)
        if self._waiting >= BATCH_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        if not self._texts:
            return
        ids, lengths = self.tokenizer.encode_documents(self._texts)
        self.file.write(ids.astype(self.dtype).tobytes())
        self.lengths.extend(lengths)
        self.sizes.extend(len(text) if text.isascii() else len(text.encode()) for text in self._texts)
        for source, length in zip(self._sources, lengths, strict=True):
            self.tokens_of_source[source] += int(length)
        self.characters += self._waiting
        self._texts, self._sources, self._waiting = [], [], 0
