"""Stop strings against a character-by-character definition, whatever the pieces."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.generate.stop import Stop


def expected(text: str, strings: list[str]) -> tuple[str, str | None]:
    for end in range(1, len(text) + 1):
        found = [s for s in strings if text[:end].endswith(s)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [*pieces, text]


@settings(max_examples=300, deadline=None)
@given(
    st.text("ab", max_size=14),
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(0, 4), max_size=8),
)
def test_any_cutting_gives_the_same_text(text: str, strings: list[str], sizes: list[int]) -> None:
    stop, out = Stop(strings), ""
    want, found = expected(text, strings)
    for piece in cut(text, sizes):
        out += stop.push(piece)
        assert want.startswith(out)  # nothing of a stop string was ever let through
    assert (out + stop.finish(), stop.found) == (want, found)


def test_text_that_cannot_be_part_of_a_stop_string_is_not_held_back() -> None:
    stop = Stop(["###"])
    assert stop.push("one #") == "one "
    assert stop.push("two") == "#two"


def test_without_stop_strings_everything_passes() -> None:
    stop = Stop([])
    assert stop.push("a") + stop.push("") + stop.finish() == "a"


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Stop(["x", ""])
