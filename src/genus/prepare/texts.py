"""Texts to look at: a bounded sample of files, or of a prepared folder, each with the source and language it is of.

The sample is made of pieces of documents with the smallest hashes, so it is the same every time and needs no more memory than it
holds, however large the files are.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from genus.prepare.dataset import Dataset, Split
from genus.prepare.items import Document
from genus.prepare.sources import find
from genus.prepare.units import cut, read
from genus.prepare.workspace import is_dataset

SEGMENT = 2**16
"""Characters of a piece. A longer document is several."""

SCOPE = 8
"""Of a corpus, at most so many times the sample's size is read, in units chosen by chance."""

HELD_OUT = ("validation", "test")
LOOKED_AT = 2000
"""Characters by which a script is recognised."""


class Text(NamedTuple):
    """A document or a piece of one. `language`: as its source says, None if it says nothing."""

    source: str
    text: str
    language: str | None = None


def sample(
    paths: Sequence[str | Path], limit: int, field: str | None = None, split_documents: str = "file", held_out: bool = True
) -> list[Text]:
    """About `limit` bytes of text, in the order of the sources; everything when there is no more.

    Args:
        paths: prepared folders, or whatever `genus prepare` reads.
        held_out: of a prepared folder, take the validation and test splits where there are some.

    Raises:
        ValueError: nothing there to read.
    """
    prepared = [Path(path) for path in paths if is_dataset(Path(path))]
    files = [path for path in paths if Path(path) not in prepared]
    texts = chain.from_iterable(_of_dataset(path, held_out) for path in prepared)
    found = _smallest(chain(texts, _of_files(files, SCOPE * limit, field, split_documents) if files else ()), limit)
    if not found:
        raise ValueError(f"there is no text in {', '.join(map(str, paths))}")
    return found


def languages(texts: Sequence[Text]) -> list[str]:
    """The language of every text: its source's, else as the step `language` finds it (extra `data`), else its script."""
    known = [text.language for text in texts]
    todo = [i for i, language in enumerate(known) if language is None]
    names = _detector()([texts[i].text for i in todo]) if todo else []
    for i, name in zip(todo, names, strict=True):
        known[i] = name
    return [language or "unknown" for language in known]


def script(text: str) -> str:
    """The script that most letters of a text are of, by their names in Unicode: "Latin", "Cyrillic"; "Chinese" for CJK."""
    letters = (character for character in text[:LOOKED_AT] if character.isalpha())
    counts = Counter(unicodedata.name(character, "?").split()[0].capitalize() for character in letters)
    if not counts:
        return "no letters"
    if counts.keys() & {"Hiragana", "Katakana"}:
        return "Japanese"
    return max(counts, key=lambda name: (counts[name], name)).replace("Cjk", "Chinese")


def _detector() -> Callable[[list[str]], list[str]]:
    import pyarrow as pa

    from genus.prepare.steps.language import detect, load

    try:
        model = load()
    except ValueError:  # the extra is not installed
        return lambda texts: [script(text) for text in texts]
    return lambda texts: detect(pa.array(texts, type=pa.large_string()), model)[0]


def _of_files(paths: Sequence[str | Path], most: int, field: str | None, split_documents: str) -> Iterator[Text]:
    """Texts of files; of many, those in units chosen by chance until `most` characters were read."""
    found = find(list(paths), text_field=field)
    units = cut(found.sources, split_documents)
    left = most
    for unit in sorted(range(len(units)), key=lambda number: _hash(f"unit {number}")):
        for part in units[unit]:
            source = found.sources[part.source]
            for item in read(source, part, split_documents):
                if isinstance(item, Document):
                    yield Text(source.label, item.text, item.language)
                    left -= len(item.text)
                if left <= 0:
                    return


def _of_dataset(path: Path, held_out: bool) -> Iterator[Text]:
    data = Dataset.open(path)
    if data.tokenizer.kind == "words":
        raise ValueError(f"{path} was written with a lossy tokenizer, so its texts are gone: give the files it was made of")
    names = [name for name in HELD_OUT if data.manifest["splits"][name]["documents"]] if held_out else []
    for name in names or ["train"]:
        split = data.split(name)
        for i, source in zip(range(split.documents), _sources(data, name, split), strict=True):
            yield Text(source, data.tokenizer.decode(split.document(i).tolist()))


def _sources(data: Dataset, name: str, split: Split) -> Iterator[str]:
    """The source of every document of a split, where the manifest tells."""
    runs = data.manifest["splits"][name].get("of_source")
    if runs is None or sum(count for _, count in runs) != split.documents:
        runs = [(None, split.documents)]
    for source, count in runs:
        label = data.root.name if source is None else data.manifest["sources"][source]["name"]
        yield from (label for _ in range(count))


def _smallest(texts: Iterable[Text], limit: int) -> list[Text]:
    """Pieces with the smallest hashes that have `limit` bytes together, in their order."""
    heap: list[tuple[int, int, int, Text]] = []
    total = number = 0
    for text in texts:
        for start in range(0, len(text.text), SEGMENT):
            piece = text._replace(text=text.text[start : start + SEGMENT])
            size = len(piece.text.encode())
            number += 1
            heappush(heap, (-_hash(piece.text), -number, size, piece))
            total += size
            while total > limit and len(heap) > 1:
                total -= heappop(heap)[2]
    return [piece for _, _, _, piece in sorted(heap, key=lambda each: -each[1])]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
