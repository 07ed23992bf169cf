"""What stands beside every neural result: the n-gram fitted on the same training split, and xz."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import lzma
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genus.evaluate.texts import Documents
from genus.parts.ngram import NGram
from genus.parts.ngram_files import load_ngram
from genus.prepare.dataset import Dataset, Split
from genus.run import write_atomic
from genus.train.kneser_ney import estimate

CACHE = ".cache"  # inside the data folder
COUNTED = 100_000_000  # training tokens that the n-gram is fitted on at most
COMPRESSED = 16 * 2**20  # bytes of the split that xz reads at most
PRIMED = 4 * 2**20  # bytes of training text that it reads before them at most


@dataclass(frozen=True)
class Compressed:
    """Bits per byte of xz.

    Attributes:
        primed: the bits that the text adds to a stream which begins with training text. cold: the text alone.
        before, size: bytes of training text, and of text (the first of the documents, if they have more than xz is given).
    """

    primed: float
    cold: float
    before: int
    size: int


@contextmanager
def counted(data: Dataset, order: int) -> Iterator[tuple[NGram.Module, str]]:
    """The n-gram of the training split in the data's own tokens, and a line about it.

    It is kept in DATA/.cache under the data's fingerprint; where that cannot be written, it is made anew each time.
    """
    train = data.split("train")
    head = _Head(train, COUNTED)
    about = f"modified Kneser–Ney, fitted on {head.tokens:,} training tokens"
    name = f"ngram-{order}-{data.fingerprint.rpartition(':')[2][:16]}"
    tokenizer = data.tokenizer

    def fit(folder: Path) -> NGram.Module:
        return estimate(head, order, data.vocab_size, tokenizer.bos_id, tokenizer.eos_id, folder, memory=2**30)

    kept = data.root / CACHE / name
    if (kept / "config.json").is_file():
        yield load_ngram(kept), f"{about} (kept in {kept})"
    elif _cache(data) is not None:
        yield fit(kept), f"{about} (kept in {kept})"
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield fit(Path(folder) / name), about


def _cache(data: Dataset) -> Path | None:
    """DATA/.cache, or None where it cannot be written."""
    folder = data.root / CACHE
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


class _Head:
    """The first documents of a split, up to a number of tokens."""

    def __init__(self, split: Split, most: int) -> None:
        self._split = split
        documents = max(1, int(np.searchsorted(split.ends, most, side="right")))
        self.ends = split.ends[:documents]
        self.tokens = int(self.ends[-1])

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._split.read(start, stop)


def compressed(documents: Documents) -> Compressed:
    """Bits per byte of xz on the text of the documents, kept in DATA/.cache because it takes seconds per megabyte."""
    cache = _cache(documents.data)
    key = hashlib.sha256(f"{documents.data.fingerprint} {documents.split.folder.name} {PRIMED} {COMPRESSED} ".encode())
    key.update(documents.numbers.tobytes())
    file = cache and cache / f"xz-{key.hexdigest()[:16]}.json"
    if file and file.is_file():
        return Compressed(**json.loads(file.read_text()))
    found = _compress(documents)
    if file:
        write_atomic(file, json.dumps(dataclasses.asdict(found)))
    return found


def _compress(documents: Documents) -> Compressed:
    text = _join(documents.texts(), COMPRESSED)[:COMPRESSED]
    data = documents.data
    before = b""
    if (data.manifest["splits"].get("train") or {}).get("documents") and documents.split is not data.split("train"):
        train = data.split("train")
        after = train.document_bytes[::-1].cumsum()[::-1] - train.document_bytes  # bytes of text that follow each document
        before = _join(Documents(data, train, np.flatnonzero(after < PRIMED)).texts())[-PRIMED:]
    cold = _size(text)
    primed = _size(before + text) - _size(before) if before else cold
    size = max(1, len(text))
    return Compressed(8 * primed / size, 8 * cold / size, len(before), len(text))


def _join(texts: Iterator[str], enough: int | None = None) -> bytes:
    """The texts, a line each, up to the one that makes it enough."""
    pieces, size = [], 0
    for text in texts:
        pieces.append(text.encode())
        size += len(pieces[-1]) + 1
        if enough is not None and size > enough:
            break
    return b"\n".join(pieces)


def _size(text: bytes) -> int:
    """Bytes of a raw LZMA2 stream at xz's highest preset, without the container's header and checksum."""
    dictionary = min(2**26, max(2**16, 1 << len(text).bit_length()))
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": dictionary}]))
