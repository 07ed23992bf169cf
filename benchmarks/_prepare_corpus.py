"""Everything textual in $GENUS_DATA and the documentation of the installed packages, with copies of which the edits are known.

Documents are those of the sources; lines of tables, and other short texts, are put together to pages. Of a package: its .rst, .md
and .txt files, the METADATA of its distribution, and the docstrings of each of its modules.
"""

from __future__ import annotations

import ast
import csv
import gzip
import json
import multiprocessing
import os
import random
import re
import shutil
import site
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import IO, Any

SHARED = Path(os.environ.get("GENUS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PAGE = 2000  # characters
ORIGINALS = 0.6  # share of the corpus that is no copy
CHANGED = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of its words (in Chinese: characters) in which a copy differs from its original."""
FILES = 16
LONGEST = 500_000  # characters of a document


@dataclass(frozen=True)
class Text:
    """A document. `copy`: the number of the document that it repeats; `changed`: the share of its words that are others."""

    text: str
    copy: int | None = None
    changed: float = 0.0


def build(folder: Path, size: int, seed: int = 0) -> Path:
    """Write about `size` bytes as JSON lines ("id", "text", "copy", "changed") into files of a folder, unless it is there."""
    if folder.exists():
        return folder
    draw = random.Random(seed)
    texts = originals(int(size * ORIGINALS), draw)
    texts += copies(texts, size - sum(len(each.text.encode()) for each in texts), draw)
    order = draw.sample(range(len(texts)), len(texts))
    temporary = folder.with_name(folder.name + ".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for number in range(FILES):
        with open(temporary / f"{number:02d}.jsonl", "w", encoding="utf-8") as file:
            for i in order[number::FILES]:
                record = {"id": str(i), "text": texts[i].text, "copy": texts[i].copy, "changed": texts[i].changed}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    temporary.rename(folder)
    return folder


def originals(size: int, draw: random.Random) -> list[Text]:
    """Half from the data, half from the packages, as far as there are so many."""
    data = data_texts()
    draw.shuffle(data)
    files = package_files()
    draw.shuffle(files)
    found = _until(iter(data), size // 2)
    with multiprocessing.Pool() as pool:
        packages = pool.imap(package_text, files, chunksize=16)
        return found + _until(packages, size - sum(len(each.text.encode()) for each in found))


def copies(texts: list[Text], size: int, draw: random.Random) -> list[Text]:
    """Copies of documents drawn at random, with words of the same language put in the place of some."""
    pools: dict[bool, list[str]] = {False: [], True: []}
    for each in texts[:2000]:
        pools[_is_wide(each.text)] += _units(each.text)
    shares = cycle(CHANGED)

    def drawn() -> Iterator[str]:
        while True:
            number, changed = draw.randrange(len(texts)), next(shares)
            pool = pools[_is_wide(texts[number].text)]
            made.append(Text(_edited(texts[number].text, changed, pool, draw), number, changed))
            yield made[-1].text

    made: list[Text] = []
    for text in drawn():
        size -= len(text.encode())
        if size <= 0:
            return made
    return made


def _until(texts: Iterator[str], size: int) -> list[Text]:
    found: list[Text] = []
    while size > 0 and (text := next(texts, None)) is not None:
        if text.strip():
            found.append(Text(text[:LONGEST]))
            size -= len(found[-1].text.encode())
    return found


_UNIT = re.compile(r"[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+")


def _is_wide(text: str) -> bool:
    return sum("\u3400" <= c <= "\u9fff" for c in text[:400]) > 80


def _units(text: str) -> list[str]:
    return _UNIT.findall(text[:20_000])


def _edited(text: str, share: float, pool: list[str], draw: random.Random) -> str:
    """The text with a share of its words, drawn at random, replaced."""
    if not share:
        return text
    places = [match.span() for match in _UNIT.finditer(text)]
    pieces, last = [], 0
    for start, end in sorted(draw.sample(places, round(share * len(places)))):
        pieces += [text[last:start], draw.choice(pool)]
        last = end
    return "".join([*pieces, text[last:]])


# -- the data ----------------------------------------------------------------------------------------------------------


def data_texts() -> list[str]:
    """All documents of $GENUS_DATA that are text in a human language, or lines of characters."""
    found: list[str] = []
    for pattern, read in _DATA.items():
        paths = sorted(SHARED.glob(pattern))
        if not paths:
            raise SystemExit(f"{SHARED} has no {pattern}: set GENUS_DATA to the folder with the data")
        for path in paths:
            with (
                gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else open(path, encoding="utf-8-sig") as file
            ):
                found += read(file)
    return found


def pages(lines: Iterable[str]) -> Iterator[str]:
    """Lines, put together until they are long enough."""
    page: list[str] = []
    size = 0
    for line in lines:
        page.append(line.rstrip("\n"))
        size += len(line)
        if size >= PAGE:
            yield "\n".join(page)
            page, size = [], 0
    if page:
        yield "\n".join(page)


def _articles(file: IO[str]) -> Iterator[str]:
    yield from re.split(r"\n(?= = [^=])", re.sub(r" ([.,;:!?)'])| @([-.,])@ ", r"\1\2", file.read()))


def _stretches(file: IO[str]) -> Iterator[str]:
    """What lies between blank lines."""
    yield from pages(each + "\n" for each in file.read().split("\n\n"))


def _columns(file: IO[str]) -> Iterator[str]:
    for column in zip(*(line.rstrip("\n").split("\t")[:2] for line in file), strict=True):
        yield from pages(column)


def _cells(file: IO[str], delimiter: str = ",") -> Iterator[str]:
    """The longest cell of every row."""
    rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if delimiter == "\t" else csv.reader(file)
    yield from pages(max(row, key=len) for row in rows if row)


def _values(file: IO[str]) -> Iterator[str]:
    """The longest text of every record."""
    yield from pages(max(map(str, json.loads(line).values()), key=len) for line in file if line.startswith("{"))


_DATA: dict[str, Callable[[IO[str]], Iterable[str]]] = {
    "wikitext2_valid_test/*.txt": _articles,
    "tinyshakespeare/*.txt": _stretches,
    "tang_poetry/*.gz": _stretches,
    "libreoffice_help_en_zh/*.tsv.gz": _columns,
    "multi30k/*.gz": pages,
    "seq2seq_toys/*.txt": pages,
    "glue_*/*.tsv": partial(_cells, delimiter="\t"),
    "chinese_reviews/*.csv.gz": _cells,
    "fewclue_eprstmt/*.json": _values,
    "toolplan/*.jsonl": _values,
    "*/*.md": lambda file: [file.read()],
    "*.md": lambda file: [file.read()],
}
"""How each file is read. Left aside is what is no text: numbers of training runs, models, pictures, sounds."""


# -- the packages ------------------------------------------------------------------------------------------------------


def package_files() -> list[Path]:
    """Files of the installed packages that hold documentation, in a fixed order."""
    found: list[Path] = []
    for folder in site.getsitepackages():
        for root, folders, names in os.walk(folder):
            folders.sort()
            documents = [name for name in sorted(names) if name == "METADATA" or name.endswith((".rst", ".md", ".txt", ".py"))]
            found += [Path(root, name) for name in documents]
    return found


def package_text(file: Path) -> str:
    """The document in a file: the whole of it, or the docstrings of a module; "" when there is none worth it."""
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix != ".py":
            return text
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    told = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    together = "\n\n".join(each for each in told if each)
    return together if len(together) >= 200 else ""


# -- what became of the copies ------------------------------------------------------------------------------------------


def records(folder: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Everything that was written: name of the file, number of the line, record."""
    for path in sorted(folder.glob("*.jsonl")):
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield path.name, number, json.loads(line)


def found(folder: Path, entered: set[str], dropped: set[str]) -> dict[str, tuple[int, int]]:
    """For every share of changed words: (copies of which one of the two was dropped, copies whose both texts were compared).

    Args:
        entered: ids that came to the removal of duplicates. dropped: those that it dropped.
    """
    told: dict[float, list[int]] = {share: [0, 0] for share in CHANGED}
    for _, _, record in records(folder):
        pair = {record["id"], str(record["copy"])}
        if record["copy"] is not None and pair <= entered:
            told[record["changed"]][0] += bool(pair & dropped)
            told[record["changed"]][1] += 1
    return {f"{share:.0%}": (hits, of) for share, (hits, of) in told.items()}
