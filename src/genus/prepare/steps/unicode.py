"""Repair of text that was decoded wrongly, and one way of writing each character (ftfy, Speer 2019; Unicode Annex 15)."""

from __future__ import annotations

import sys
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from genus.prepare.steps.step import Function, Outcome, Step, each_column, replace_text

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Unicode(Step):
    """Repair garbled characters (cafÃ© becomes café), and write each character in one way (NFC).

    Control characters, terminal colours, byte order marks and ligatures of Latin letters go, line breaks become one kind.
    HTML entities are resolved up to the first line with a "<". Quotation marks and the wide signs of Chinese stay as they
    are. Lines that need nothing, nearly all, are told at once by a regular expression.

    Attributes:
        repair: whether text is repaired, or only normalised.
        form: the normal form, "none" for none. NFKC also makes wide letters narrow, ① a 1, and so on.
    """

    NAME: ClassVar[str] = "unicode"
    PAIRS: ClassVar[bool] = True

    repair: bool = True
    form: Literal["NFC", "NFKC", "none"] = "NFC"

    def ready(self) -> Function:
        form = None if self.form == "none" else self.form
        repair = _repairer(form) if self.repair else None
        garbled = "|".join([*([suspicious()] if self.repair else []), *([unsettled(form)] if form else [])]) or NOTHING

        def clean(batch: pa.RecordBatch, name: str) -> Outcome:
            column = batch.column(name)
            found = matches(column, garbled)
            if not found:
                return Outcome(batch, [], [], {})
            old = column.take(found).to_pylist()
            new = _by_line(old, garbled, repair) if repair else [unicodedata.normalize(form or "NFC", text) for text in old]
            texts: list[str | None] = [None] * batch.num_rows
            for i, text in zip(found, new, strict=True):
                texts[i] = text
            return replace_text(batch, texts, "Unicode repaired", name)

        return lambda batch: each_column(batch, clean)


def matches(texts: pa.Array, pattern: str) -> list[int]:
    """Which texts a regular expression (RE2) finds something in."""
    import pyarrow.compute as pc

    return np.flatnonzero(np.asarray(pc.match_substring_regex(texts, pattern))).tolist()


def _by_line(texts: Sequence[str], pattern: str, repair: Callable[[str, bool], str]) -> list[str]:
    """Repair the lines that need it. Like ftfy, each by itself, and from the first line with a "<" on entities stay."""
    import pyarrow as pa

    of = [text.split("\n") for text in texts]
    lines = [line for each in of for line in (*(line + "\n" for line in each[:-1]), each[-1])]
    ends = list(accumulate(map(len, of)))
    markup: dict[int, int] = {}  # of a text its first line with a "<"
    for i in matches(pa.array(lines, type=pa.large_string()), pattern):  # one call, for the pattern takes long to compile
        text = bisect_right(ends, i)
        if text not in markup:
            start = ends[text] - len(of[text])
            markup[text] = next((at for at in range(start, ends[text]) if "<" in lines[at]), ends[text])
        lines[i] = repair(lines[i], i < markup[text])
    return ["".join(lines[end - len(each) : end]) for each, end in zip(of, ends, strict=True)]


def _repairer(form: Literal["NFC", "NFKC"] | None) -> Callable[[str, bool], str]:
    """ftfy's repair of a line, which is told whether to resolve HTML entities."""
    ftfy = _ftfy()
    config = ftfy.TextFixerConfig(
        explain=False, uncurl_quotes=False, fix_character_width=False, normalization=form, max_decode_length=sys.maxsize
    )
    return lambda line, entities: ftfy.fix_text(line, config._replace(unescape_html=entities))


def _ftfy() -> ModuleType:
    try:
        import ftfy
    except ImportError as error:
        raise ValueError('the step unicode needs ftfy: pip install "genus[data]"') from error
    return ftfy


@cache
def suspicious() -> str:
    """A regular expression (RE2) that finds something in each line that ftfy would change, normal forms aside, and in few others.

    Mojibake is UTF-8 read as a one-byte encoding: a character of the first byte of a sequence stands before one of a later
    byte, or before a space or question mark that has taken its place.
    """
    chardata = _ftfy().chardata
    found = {r"&#?[0-9A-Za-z]{1,24};"}
    for encoding in chardata.CHARMAP_ENCODINGS:
        later = _class(bytes(range(0x80, 0xC0)).decode(encoding))
        found.add(_class(bytes(range(0xC0, 0xF5)).decode(encoding)) + later)
        if encoding != "macroman":
            found.add(_class(b"\xc2\xc3\xc5\xce\xd0\xd9".decode(encoding)) + " ")
            found.add(_class(b"\xe2\xe3\xf0".decode(encoding)) + f" {later}")
        if encoding.startswith("sloppy"):
            found.add(_class(b"\xc2\xc3".decode(encoding)) + "[?]")
            found.add(_class(bytes(range(0xE0, 0xF5)).decode(encoding)) + f"[?]{later}")
    later = _class(chardata.UTF8_CLUES["utf8_continuation"])
    found |= {_class(chardata.UTF8_CLUES[f"utf8_first_of_{size}"]) + later * (size - 1) for size in (2, 3, 4)}
    single = {chr(point) for point in [*chardata.CONTROL_CHARS, *chardata.LIGATURES, *range(0x80, 0xA0)]}
    return "|".join([_class("".join(single) + "\r\u2028\u2029\ufffd"), *sorted(found)])


@cache
def unsettled(form: Literal["NFC", "NFKC"]) -> str:
    """A class of all characters that may change, or join with the one before, when a text is brought into a normal form."""
    points = (chr(point) for point in range(0x80, sys.maxunicode + 1) if not 0xD800 <= point < 0xE000)
    changing = (c for c in points if unicodedata.category(c)[0] == "M" or not unicodedata.is_normalized(form, c))
    return _class("".join(changing) + _JAMO)


NOTHING = r"[^\x{0}-\x{10FFFF}]"
"""A regular expression that finds nothing."""
_JAMO = "".join(map(chr, [*range(0x1160, 0x1200), *range(0xD7B0, 0xD800)]))
"""The later letters of Korean syllables, which join with the one before."""


def _class(characters: str) -> str:
    """A character class of a regular expression, in ranges."""
    points = sorted(set(map(ord, characters)))
    edges = [i for i in range(1, len(points)) if points[i] != points[i - 1] + 1]
    spans = zip([0, *edges], [*edges, len(points)])
    return "[" + "".join(rf"\x{{{points[a]:x}}}-\x{{{points[b - 1]:x}}}" for a, b in spans) + "]"
