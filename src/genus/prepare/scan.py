"""First pass over a unit: count and hash documents, quarantine what cannot be used, put a sample aside for the tokenizer."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from typing import IO, Any

import numpy as np

from genus.prepare.items import Document, Lines, Reject
from genus.prepare.plan import Plan
from genus.prepare.units import read
from genus.prepare.workspace import Workspace

STAGE = "scan"
UNEVEN = 9
"""Times that one side of a pair is longer than the other from which they are hardly translations (as Moses cleans corpora)."""
SEGMENT = 2**16
"""Characters of the pieces that a tokenizer's sample is drawn in."""


def scan_unit(space: Workspace, plan: Plan, unit: int) -> None:
    """Read a unit and write what the later steps need to know of its documents (about 40 bytes for each)."""
    uneven = 0
    digests = bytearray()
    characters, sizes, sources, starts = array("q"), array("q"), array("i"), array("b")
    lines: list[int] = []
    reasons: Counter[str] = Counter()
    remarks: list[str] = []
    with (
        open(space.file(STAGE, unit, "rejected"), "w", encoding="utf-8") as rejected,
        open(space.file(STAGE, unit, "sample"), "w", encoding="utf-8") as sample,
    ):
        for number, part in enumerate(plan.units[unit]):
            source = plan.sources[part.source]
            lines.append(0)
            for item in read(source, part, plan.split_documents):
                if isinstance(item, Document):
                    digest = item.digest
                    size = _bytes(item.text)
                    _sample(sample, len(sizes), item.text, digest, plan.sample)
                    if item.source is not None:
                        _sample(sample, len(sizes), item.source, digest, plan.sample)
                        size += _bytes(item.source)
                        short, long = sorted((len(item.source), len(item.text)))
                        uneven += long > UNEVEN * short
                    digests += digest
                    characters.append(len(item.text))
                    sizes.append(size)
                    sources.append(part.source)
                    starts.append(item.starts)
                elif isinstance(item, Reject):
                    reasons[item.reason] += 1
                    record = {"part": number, "line": item.line, "reason": item.reason, "excerpt": item.excerpt}
                    rejected.write(json.dumps(record, ensure_ascii=False) + "\n")
                elif isinstance(item, Lines):
                    lines[-1] = item.number
                else:
                    remarks.append(f"{source.label}: {item.text}")
    np.savez(
        space.file(STAGE, unit, "npz"),
        digests=np.frombuffer(bytes(digests), dtype="<u8").reshape(-1, 2),
        characters=np.array(characters, dtype=np.int64),
        sizes=np.array(sizes, dtype=np.int64),
        sources=np.array(sources, dtype=np.int32),
        starts=np.array(starts, dtype=bool),
    )
    facts: dict[str, Any] = {"documents": len(sizes), "lines": lines, "rejected": dict(reasons), "remarks": remarks}
    facts |= {"uneven": uneven} if uneven else {}
    space.mark_done(STAGE, unit, facts)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _sample(file: IO[str], document: int, text: str, digest: bytes, share: float) -> None:
    """Put pieces of a document aside, each with probability `share`; the document's own hash throws the dice."""
    if share <= 0:
        return
    count = -(-len(text) // SEGMENT)
    if share < 1:
        chosen = np.flatnonzero(np.random.default_rng(int.from_bytes(digest[8:], "little")).random(count) < share)
    else:
        chosen = np.arange(count)
    for i in map(int, chosen):
        start = i * SEGMENT
        file.write(json.dumps([document, start, text[start : start + SEGMENT]], ensure_ascii=False) + "\n")
