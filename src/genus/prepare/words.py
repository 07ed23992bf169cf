"""The words of many texts at once, each as a 64-bit hash: what duplicates are looked for with.

A word is a run of letters and digits; every character of a script written without spaces is a word of its own (the kinds of
characters are those of `steps/layout.py`), so a text of mixed scripts needs no decision. Hashes do not depend on the process or
the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genus.prepare.steps.keys import hashes, mix
from genus.prepare.steps.layout import DIGIT, INNER, LETTER, SYMBOL, UNSPACED, Layout

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 2**20
"""Bytes of text looked at together, so that what is computed of them fits into the caches."""


class Words(NamedTuple):
    """Words of n texts, in order.

    Attributes:
        hashes: (words,) uint64.
        begins, ends: (words,) int64, in UTF-8 bytes, counted from the beginning of the first text.
        firsts: (n + 1,) int64; the words of text i are firsts[i] .. firsts[i + 1] - 1.
    """

    hashes: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    firsts: np.ndarray


def blocks(texts: pa.Array) -> Iterator[pa.Array]:
    """A column in slices of about `BLOCK` bytes, or one text where it is longer."""
    import pyarrow.compute as pc

    ends = np.cumsum(pc.binary_length(texts).to_numpy())
    start = before = 0
    while start < len(texts):
        stop = max(start + 1, int(np.searchsorted(ends, before + BLOCK, side="right")))
        yield texts.slice(start, stop - start)
        start, before = stop, int(ends[stop - 1])


def find_words(texts: pa.Array, exact: bool = False) -> Words:
    """The words of a large_string column.

    Args:
        exact: letters as they are written, and every run of punctuation and symbols is a word too; only white space does not
            count. Otherwise in small letters, and punctuation does not count either. Then `begins` and `ends` are those in the
            text in small letters.
    """
    import pyarrow.compute as pc

    layout = Layout(texts if exact else pc.utf8_lower(texts))
    heads = np.flatnonzero(layout.kinds != INNER)  # the first bytes of all characters
    kinds = layout.kinds[heads]
    kinds[kinds == DIGIT] = LETTER
    inside = kinds >= (SYMBOL if exact else LETTER)
    first = kinds >= UNSPACED
    first[:1] = True
    first[1:] |= kinds[1:] != kinds[:-1]
    starts = layout.offsets[:-1]
    first[np.searchsorted(heads, starts[starts < len(layout.data)])] = True
    first &= inside
    last = inside.copy()
    last[:-1] &= first[1:] | ~inside[1:]
    begins, ends = heads[first], np.append(heads[1:], len(layout.data))[last]
    return Words(hashes(layout.data, begins, ends), begins, ends, np.searchsorted(begins, layout.offsets))


def windows(words: Words, size: int, short: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all runs of `size` words of every text.

    Args:
        short: a text of fewer words (but at least one) has one run, the whole of it.

    Returns:
        values: (runs,) uint64. offsets: (n + 1,) int64; those of text i are offsets[i] .. offsets[i + 1] - 1.
    """
    counts = np.diff(words.firsts)
    runs = np.maximum(counts - size + 1, 0)
    cut = (counts > 0) & (runs == 0) & short
    offsets = np.concatenate([[0], np.cumsum(runs + cut)])
    values = np.empty(offsets[-1], dtype=np.uint64)
    full = np.ones(len(values), dtype=bool)
    full[offsets[:-1][cut]] = False
    begins = np.repeat(words.firsts[:-1] - offsets[:-1], runs + cut) + np.arange(len(values))
    values[full] = hashes_of_runs(words.hashes, size)[begins[full]]
    values[~full] = _hashes_of_wholes(words, np.flatnonzero(cut))
    return values, offsets


def hashes_of_runs(words: np.ndarray, size: int) -> np.ndarray:
    """Hash of words[i : i + size] for every i, by doubling: a run of 50 is a run of 2, one of 16 and one of 32."""
    power, length = words, 1
    built, of = None, 0
    while True:
        if size & length:
            built, of = (power, length) if built is None else (_join(built, of, power), of + length)
        if 2 * length > size:
            assert built is not None
            return built
        power, length = _join(power, length, power), 2 * length


def _join(left: np.ndarray, size: int, right: np.ndarray) -> np.ndarray:
    """Hashes of runs of `size` words, each joined with the run that follows it."""
    count = max(0, min(len(left), len(right) - size))
    return mix(left[:count], right[size : size + count])


def _hashes_of_wholes(words: Words, texts: np.ndarray) -> np.ndarray:
    """Hash of all words of texts that have few."""
    begins, ends = words.firsts[texts], words.firsts[texts + 1]
    values = np.zeros(len(texts), dtype=np.uint64)
    while (more := begins < ends).any():
        values[more] = mix(values[more], words.hashes[begins[more]])
        begins = begins + 1
    return values
