"""Where words, lines and paragraphs lie, against Python's own splitting; what is Chinese and what is written with spaces."""

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genus.prepare.steps.layout import BREAK, SPACE, Layout, code_points

ENGLISH = "The quick brown fox jumps over the lazy dog. It wasn't 3.14 times as quick — was it?\n\n  Yes; naïve “quotes”.\nEnd"
CHINESE = "床前明月光，疑是地上霜。\n举头望明月，低头思故乡。"
JAPANESE = "これは日本語の文章です。漢字とひらがなとカタカナが混ざっています。"
THAI = "ภาษาไทยไม่มีการเว้นวรรคระหว่างคำ"
KOREAN = "한국어는 낱말 사이를 띄어 씁니다."

ODD = st.text(st.sampled_from("ab \n\t\r\x00.é中。あ\u3000\u2028\u00a0😀e\u0301"), max_size=60)
TEXTS = st.lists(ODD | st.text(max_size=30), max_size=6)


def layout(*texts: str) -> Layout:
    return Layout(pa.array(texts, type=pa.large_string()))


def pieces(of: Layout, ranges: object) -> list[list[str]]:
    found = [of.data[a:b].tobytes().decode() for a, b in zip(ranges.start, ranges.end)]  # type: ignore[attr-defined]
    return [found[a:b] for a, b in zip(ranges.first, ranges.first[1:])]  # type: ignore[attr-defined]


@settings(max_examples=100, deadline=None)
@given(TEXTS)
@example(["a.", "...", ".", "..", ".b", "......"])
@example([".", ".", "...."])
def test_pieces_are_those_that_python_splits(texts: list[str]) -> None:
    found = layout(*texts)
    assert pieces(found, found.words) == [text.split() for text in texts]
    lines = [[line.strip() for line in text.split("\n") if line.strip()] for text in texts]
    assert pieces(found, found.lines) == lines
    assert found.line_words.tolist() == [len(line.split()) for text in lines for line in text]
    paragraphs = [[each.strip() for each in re.split(r"\n[^\S\n]*\n\s*", text) if each.strip()] for text in texts]
    assert pieces(found, found.paragraphs) == paragraphs
    assert found.characters.tolist() == [len(text) for text in texts]
    assert found.visible.tolist() == [sum(not c.isspace() for c in text) for text in texts]
    assert found.lengths(found.lines).tolist() == [len(line) for text in lines for line in text]
    assert found.first(found.lines.start).tolist() == [ord(line[0]) for text in lines for line in text]
    assert found.last(found.lines.end).tolist() == [ord(line[-1]) for text in lines for line in text]
    assert found.break_off(found.lines).tolist() == [line.endswith(("...", "…")) for text in lines for line in text]
    assert found.ellipses.tolist() == [len(re.findall(r"\.{3,}|…", text)) for text in texts]


def test_a_slice_of_a_column_is_laid_out_like_the_column_by_itself() -> None:
    column = pa.array(["first", "", "second text", "…"], type=pa.large_string())
    found = Layout(column.slice(1, 2))
    assert found.data.tobytes() == b"second text" and found.offsets.tolist() == [0, 0, 11]
    assert found.words.counts.tolist() == [0, 2]


def test_units_are_words_where_there_are_spaces_and_characters_where_there_are_none() -> None:
    found = layout(ENGLISH, CHINESE, JAPANESE, THAI, KOREAN, "", "Das ist 中文 in einem deutschen Satz.", "用 PyTorch 训练模型")
    assert found.spaced.tolist() == [True, False, False, False, True, True, True, False]
    assert found.chinese.tolist() == [False, True, False, False, False, False, False, True]
    assert found.han.tolist()[1] == 20 and found.han.tolist()[7] == 5
    assert found.line_units.tolist()[:5] == [18, 3, 1, 10, 10]


def test_every_character_has_the_kind_of_its_unicode_category() -> None:
    text = "aZß٣½Ⅷ中あก한\u0301—，€😀𝔸𠀀"
    kinds = layout(text).kinds
    starts = np.flatnonzero((np.frombuffer(text.encode(), dtype=np.uint8) & 0xC0) != 0x80)
    assert "".join("....sdluh"[kind + 1] for kind in kinds[starts]) == "lllddlhuullsssslh"  # symbol, digit, letter, unspaced, han
    spaces = "\u00a0\u3000\u2003\t\n"
    assert all(unicodedata.category(c)[0] in "ZC" for c in spaces)
    assert set(layout(spaces).kinds.tolist()) == {SPACE, BREAK}


@given(st.text(max_size=50))
def test_code_points_are_read_from_bytes(text: str) -> None:
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    at = np.flatnonzero((data & 0xC0) != 0x80)
    assert code_points(data, at).tolist() == list(map(ord, text))


@pytest.mark.parametrize("text", ["中" * 3, "a b c", ""])
def test_a_layout_of_one_text_equals_that_among_others(text: str) -> None:
    alone, among = layout(text), layout("before\n", text, "\nafter")
    assert among.words.counts.tolist()[1] == alone.words.counts.tolist()[0]
    assert among.spaced.tolist()[1] == alone.spaced.tolist()[0]
