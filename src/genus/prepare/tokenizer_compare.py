"""How well tokenizers fit a text: bytes and characters per token, tokens per word, by language and by source.

A word is a run of letters and digits (with inner apostrophes, points and hyphens), or a single Chinese character. So for Chinese,
tokens per word are tokens per character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Core

from genus.modalities.text import find_file
from genus.modalities.vocabulary import HAN
from genus.prepare.texts import Text, languages

_INNER = f"(?:(?!{HAN.pattern})[^\\W_])+"
WORD = re.compile(f"{HAN.pattern}|{_INNER}(?:['’.-]{_INNER})*")

ALL = "all"
MOST_GROUPS = 20
_BATCH = 256


@dataclass
class Amount:
    """How much text there is in a group."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    words: int = 0


@dataclass
class Figures:
    """What a tokenizer makes of a group.

    Attributes:
        tokens: how many. unknown: those that stand for what the vocabulary lacks. changed: documents that do not come back as
            they were.
    """

    tokens: int = 0
    unknown: int = 0
    changed: int = 0


class Peer:
    """Any tokenizer.json, whether or not it has the special tokens that a language model needs.

    Attributes:
        path: what was given. core: letters of special tokens stay letters. entries: of the vocabulary.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises ValueError: there is no tokenizer.json, or none that can be read."""
        self.path = str(path)
        file = find_file(path)
        try:
            self.core = Core.from_file(str(file))
        except Exception as error:  # the Rust side raises bare Exception
            raise ValueError(f"{file} is not a tokenizer.json that the tokenizers library can read: {error}") from error
        self.core.no_padding()
        self.core.no_truncation()
        self.core.encode_special_tokens = True
        self.entries = self.core.get_vocab_size(with_added_tokens=True)
        model = json.loads(self.core.to_str())["model"]
        self.kind: str = model["type"]
        unknown = model.get("unk_id")
        if model.get("unk_token") is not None:
            unknown = self.core.token_to_id(model["unk_token"])
        self.unknown: int | None = unknown

    def figures(self, texts: Sequence[str]) -> list[Figures]:
        """The figures of every text."""
        found = []
        for encoding, text in zip(self.core.encode_batch_fast(list(texts), add_special_tokens=False), texts, strict=True):
            ids = encoding.ids
            back = self.core.decode(ids, skip_special_tokens=False)
            found.append(Figures(len(ids), 0 if self.unknown is None else ids.count(self.unknown), int(back != text)))
        return found


@dataclass
class Comparison:
    """Tokenizers on the same texts.

    Attributes:
        tokenizers: the facts of each. amounts: {"all" | "language" | "source": {group: Amount}}.
        figures: for each tokenizer the same with Figures.
    """

    tokenizers: list[dict[str, Any]]
    amounts: dict[str, dict[str, Amount]] = field(default_factory=dict)
    figures: list[dict[str, dict[str, Figures]]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        rows = []
        for by, group in self.groups():
            amount = self.amounts[by][group]
            each = [ratios(amount, own[by][group]) | asdict(own[by][group]) for own in self.figures]
            rows.append({"by": by, "group": group, **asdict(amount), "tokenizers": each})
        return {"tokenizers": self.tokenizers, "rows": rows}

    def groups(self) -> list[tuple[str, str]]:
        """All texts, the languages, the sources; of each, the largest first."""
        ordered = []
        for by, found in self.amounts.items():
            ordered += [(by, name) for name in sorted(found, key=lambda name: (-found[name].bytes, name))]
        return ordered


def compare(paths: Sequence[str | Path], texts: Sequence[Text]) -> Comparison:
    """Put tokenizers on the same texts.

    Args:
        paths: tokenizer.json files, or folders that hold one.

    Raises:
        ValueError: one of them is no tokenizer.
    """
    peers = [Peer(path) for path in paths]
    found = Comparison([{"path": peer.path, "kind": peer.kind, "entries": peer.entries} for peer in peers])
    found.figures = [{} for _ in peers]
    groups = [
        {ALL: ALL, "language": language, "source": text.source} for text, language in zip(texts, languages(texts), strict=True)
    ]
    for first in range(0, len(texts), _BATCH):
        batch = [text.text for text in texts[first : first + _BATCH]]
        own = groups[first : first + _BATCH]
        for text, names in zip(batch, own, strict=True):
            amount = Amount(1, len(text.encode()), len(text), sum(1 for _ in WORD.finditer(text)))
            _add(found.amounts, names, amount)
        for peer, into in zip(peers, found.figures, strict=True):
            for names, figures in zip(own, peer.figures(batch), strict=True):
                _add(into, names, figures)
    return found


def ratios(amount: Amount, figures: Figures) -> dict[str, float | None]:
    """The figures that can be compared between texts; None where there is nothing to divide by."""

    def share(a: int, b: int) -> float | None:
        return a / b if b else None

    return {
        "bytes_per_token": share(amount.bytes, figures.tokens),
        "characters_per_token": share(amount.characters, figures.tokens),
        "tokens_per_word": share(figures.tokens, amount.words),
    }


def table(found: Comparison) -> str:
    """The comparison as text: a block for each measure, a line for each group, a column for each tokenizer."""
    letters = [chr(ord("A") + i) if len(found.tokenizers) <= 26 else str(i + 1) for i in range(len(found.tokenizers))]
    whole = found.amounts[ALL][ALL]
    lines = [f"{whole.documents:,} texts: {whole.bytes:,} bytes, {whole.characters:,} characters, {whole.words:,} words"]
    for letter, facts, figures in zip(letters, found.tokenizers, found.figures, strict=True):
        own = figures[ALL][ALL]
        remarks = [f"{facts['kind']}, {facts['entries']:,} entries"]
        remarks += [f"unknown tokens: {own.unknown:,}"] if own.unknown else []
        remarks.append(f"{own.changed:,} texts do not come back" if own.changed else "every text comes back as it was")
        lines.append(f"{letter}  {facts['path']}: {'; '.join(remarks)}")
    shown = _shown(found)
    width = max([len(_label(by, name)) for by, name in shown] + [len(measure) for measure in _MEASURES])
    for measure, (value, text) in _MEASURES.items():
        lines += ["", f"{measure:<{width}}" + "".join(f"{letter:>10}" for letter in letters)]
        for by, name in shown:
            cells = [value(found, column, by, name) for column in range(len(letters))]
            row = "".join(f"{'–' if cell is None else text.format(cell):>10}" for cell in cells)
            lines.append(f"{_label(by, name):<{width}}{row}")
    left = len(found.groups()) - len(shown)
    return "\n".join([*lines, *([f"\n{left:,} smaller groups are in --json"] if left else [])])


def _relative(found: Comparison, column: int, by: str, name: str) -> float | None:
    first, own = (found.figures[i][by][name].tokens for i in (0, column))
    return own / first if first else None


def _ratio(key: str) -> Any:
    return lambda found, column, by, name: ratios(found.amounts[by][name], found.figures[column][by][name])[key]


_MEASURES: Mapping[str, Any] = {
    "tokens, relative to A": (_relative, "{:.3f}"),
    "bytes per token": (_ratio("bytes_per_token"), "{:.2f}"),
    "characters per token": (_ratio("characters_per_token"), "{:.2f}"),
    "tokens per word": (_ratio("tokens_per_word"), "{:.2f}"),
}


def _shown(found: Comparison) -> list[tuple[str, str]]:
    """The groups of a table; a single source needs no line of its own."""
    rows: list[tuple[str, str]] = []
    for by in found.amounts:
        own = [group for group in found.groups() if group[0] == by]
        rows += own[:MOST_GROUPS] if by != "source" or len(own) > 1 else []
    return rows


def _label(by: str, name: str) -> str:
    return name if by == ALL else f"  {by} {name}"


def _add(into: dict[str, dict[str, Any]], names: Mapping[str, str], value: Amount | Figures) -> None:
    for by, name in names.items():
        group = into.setdefault(by, {})
        group[name] = _sum((group[name], value)) if name in group else value


def _sum(values: Iterable[Any]) -> Any:
    first, second = values
    return type(first)(*(a + b for a, b in zip(asdict(first).values(), asdict(second).values(), strict=True)))
