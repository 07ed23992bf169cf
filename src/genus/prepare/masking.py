"""Put placeholders in the place of what should not be learnt by heart: the common part of masking personal data and secrets.

A kind of thing has a gate, a regular expression that Arrow's RE2 looks for in a whole batch without making a Python string of any
text, and a finder, which looks closely at the few texts that pass. Clean text costs the gates alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from genus.prepare.items import EXCERPT, excerpt
from genus.prepare.steps.step import BEFORE, Change, Outcome, set_column

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 2
"""Characters at both ends of a masked thing that stay readable in excerpts: enough to judge a rule, too few to use."""

Finder = Callable[[str], Iterable[tuple[int, int]]]


@dataclass(frozen=True)
class Kind:
    """One kind of thing to mask.

    Attributes:
        name: in reports, "phone number". mask: what stands in its place, "<PHONE>".
        gate: an expression of RE2 that is found in every text that holds such a thing.
        find: places, as (first, one after the last).
    """

    name: str
    mask: str
    gate: str
    find: Finder


class Span(NamedTuple):
    """A place in a text and what stands there."""

    start: int
    end: int
    kind: Kind


def mask_column(batch: pa.RecordBatch, column: str, kinds: Sequence[Kind]) -> Outcome:
    """Mask things in a column of a batch. Where two overlap, the earlier in `kinds` stands."""
    import pyarrow as pa

    found = spans_in(batch.column(column), kinds)
    if not found:
        return Outcome(batch, [], [], {})
    texts = batch.column(column)
    rows = batch.column("row")
    changes: list[Change] = []
    counts: Counter[str] = Counter()
    new: dict[int, str] = {}
    for i, spans in sorted(found.items()):
        text = texts[i].as_py()
        new[i] = masked(text, spans)
        counts.update(span.kind.mask for span in spans)
        changes += [
            Change(rows[i].as_py(), f"{kind.name} masked", *excerpts) for kind, excerpts in _shown(text, new[i], spans).items()
        ]
    every = pa.array((new.get(i) if i in new else text for i, text in enumerate(texts.to_pylist())), type=texts.type)
    return Outcome(set_column(batch, column, every), [], changes, dict(counts))


def spans_in(texts: pa.LargeStringArray, kinds: Sequence[Kind]) -> dict[int, list[Span]]:
    """Places of all things, in order and without overlaps, by number of the text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    every = "|".join(f"(?:{kind.gate})" for kind in kinds)
    passed = pc.indices_nonzero(pc.match_substring_regex(texts, every)).to_numpy()
    if not len(passed):
        return {}
    left = texts.take(pa.array(passed))
    gathered: dict[int, list[Span]] = {}
    for kind in kinds:
        for i in pc.indices_nonzero(pc.match_substring_regex(left, kind.gate)).to_pylist():
            known = gathered.setdefault(int(passed[i]), [])
            for start, end in kind.find(left[i].as_py()):
                if all(end <= other.start or start >= other.end for other in known):
                    known.append(Span(start, end, kind))
    return {i: sorted(spans, key=lambda span: span.start) for i, spans in gathered.items() if spans}


def masked(text: str, spans: Sequence[Span]) -> str:
    """The text with placeholders."""
    return "".join(_pieces(text, spans, lambda span: span.kind.mask))


def veiled(text: str, spans: Sequence[Span]) -> str:
    """The text with the middle of every thing left out."""
    return "".join(_pieces(text, spans, lambda span: veil(text[span.start : span.end])))


def veil(thing: str) -> str:
    """The ends of a thing that is not to be shown."""
    return f"{thing[:SHOWN]}…{thing[-SHOWN:]}" if len(thing) >= 4 * SHOWN else "…"


def _pieces(text: str, spans: Sequence[Span], instead: Callable[[Span], str]) -> Iterator[str]:
    last = 0
    for span in spans:
        yield text[last : span.start]
        yield instead(span)
        last = span.end
    yield text[last:]


def _shown(text: str, after: str, spans: Sequence[Span]) -> dict[Kind, tuple[str, str]]:
    """Excerpts around the first thing of every kind. What was masked is not shown, since the folder may be handed on."""
    before = veiled(text, spans)
    grown_before = grown_after = 0
    shown: dict[Kind, tuple[str, str]] = {}
    for span in spans:
        if span.kind not in shown:
            shown[span.kind] = (_window(before, span.start + grown_before), _window(after, span.start + grown_after))
        length = span.end - span.start
        grown_before += len(veil(text[span.start : span.end])) - length
        grown_after += len(span.kind.mask) - length
    return shown


def _window(text: str, at: int) -> str:
    start = max(0, at - BEFORE)
    return ("…" if start else "") + excerpt(text[start : start + EXCERPT])
