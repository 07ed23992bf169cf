"""Subtitles (.srt, .vtt): what is said, without times, numbers and marks; one document per file."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import BinaryIO

from genus.prepare.items import Item, Lines, take
from genus.prepare.limits import whole
from genus.prepare.readers.job import Job

_TIME = re.compile(r"^\s*(?:\d+:)?\d+:\d+[.,]\d+\s*-->\s*(?:\d+:)?\d+:\d+[.,]\d+")
_MARK = re.compile(r"<[^<>]{0,200}>|\{\\[^{}]{0,200}\}")


def read(file: BinaryIO, job: Job) -> Iterator[Item]:
    """The lines of all cues. A line that repeats the one before it, as in captions that roll, is taken once."""
    text = whole(file).decode("utf-8-sig" if job.encoding == "utf-8" else job.encoding)
    spoken: list[str] = []
    inside = False
    lines = text.splitlines()
    for line in lines:
        if _TIME.match(line):
            inside = True
        elif not line.strip():
            inside = False
        elif inside:
            said = html.unescape(_MARK.sub("", line)).strip()
            if said and spoken[-1:] != [said]:
                spoken.append(said)
    yield take("\n".join(spoken), None, 0)
    yield Lines(len(lines))
