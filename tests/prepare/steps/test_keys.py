"""Hashes of pieces of text, and which of them occur more than once."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.prepare.steps.keys import alike, at_most, characters, hashes


def test_hashes_tell_ranges_apart_and_do_not_depend_on_where_they_lie() -> None:
    words = ["", "a", "ab", "a\0", "b", "eight888", "nine99999", "x" * 511, "x" * 512, "x" * 513, "x" * 5000, "x" * 4999 + "y"]
    text = "".join(word + "|" for word in [*words, *reversed(words)]).encode()
    size = np.array([len(word) for word in [*words, *reversed(words)]])
    start = np.concatenate([[0], np.cumsum(size + 1)[:-1]])
    found = hashes(np.frombuffer(text, dtype=np.uint8), start, start + size).tolist()
    assert found[: len(words)] == found[: len(words) - 1 : -1] and len(set(found)) == len(words)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 30)))
def test_like_keys_come_together_in_order(numbers: list[int]) -> None:
    keys = np.array(numbers, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    at, first = alike(keys, np.arange(len(keys)) + 100)
    count = Counter(numbers)
    groups = [[i + 100 for i, each in enumerate(numbers) if each == number] for number in count if count[number] > 1]
    assert sorted(groups) == sorted(group.tolist() for group in np.split(at, np.flatnonzero(first)[1:]) if len(group))
    assert all(found >= count[number] for found, number in zip(at_most(keys).tolist(), numbers))


@given(st.text(max_size=50))
def test_the_same_number_stands_for_the_same_character(text: str) -> None:
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    numbers = characters(data, np.flatnonzero((data & 0xC0) != 0x80)).tolist()
    assert len(numbers) == len(text) and len(set(numbers)) == len(set(text)) == len(set(zip(numbers, text)))
