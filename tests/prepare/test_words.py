from __future__ import annotations

import pyarrow as pa
import pytest

from genus.prepare.words import BLOCK, Words, blocks, find_words, windows


def column(*texts: str) -> pa.Array:
    return pa.array(texts, type=pa.large_string())


def spelt(texts: pa.Array, words: Words) -> list[list[str]]:
    data = "".join(texts.to_pylist()).encode()
    each = [data[one:two].decode() for one, two in zip(words.begins, words.ends)]
    return [each[one:two] for one, two in zip(words.firsts, words.firsts[1:])]


def test_words_of_every_script():
    texts = column("Hello, World!", "", "我们去 China 吧。", "...", "ภาษา हिन्दी 3½", "é")
    assert spelt(texts, find_words(texts, exact=True)) == [
        ["Hello", ",", "World", "!"],
        [],
        ["我", "们", "去", "China", "吧", "。"],
        ["..."],
        ["ภ", "า", "ษ", "า", "हिन्दी", "3½"],
        ["é"],
    ]
    assert find_words(texts).firsts.tolist() == [0, 2, 2, 7, 7, 13, 14]


def test_case_and_punctuation_count_only_in_exact_words():
    texts = column("The cat -- sat.", "the CAT sat")
    plain, exact = find_words(texts), find_words(texts, exact=True)
    assert plain.hashes[:3].tolist() == plain.hashes[3:].tolist()
    assert exact.hashes[0] != exact.hashes[5] and exact.firsts.tolist() == [0, 5, 8]


def test_a_word_does_not_reach_into_the_next_text():
    joined, apart = find_words(column("ab", "cd")), find_words(column("abcd"))
    assert len(joined.hashes) == 2 and len(apart.hashes) == 1


def test_a_slice_of_a_column_gives_the_same_words():
    texts = column("一二三", "one two", "three", "四 five")
    whole, part = find_words(texts), find_words(texts.slice(1, 2))
    assert part.hashes.tolist() == whole.hashes[3:6].tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, 7, 50])
def test_windows_are_equal_exactly_where_their_words_are(size):
    words = [str(i % 60) for i in range(200)]  # with a period of 60
    texts = column(" ".join(words), " ".join(words[7:150]), "too short")
    values, offsets = windows(find_words(texts), size)
    assert offsets.tolist()[:3] == [0, 201 - size, 201 - size + 144 - size]
    first, second = values[: offsets[1]], values[offsets[1] : offsets[2]]
    assert second.tolist() == first[7 : 7 + len(second)].tolist()
    assert len(set(first.tolist())) == min(60, len(first))


def test_windows_of_short_texts():
    texts = column("a b", "", "A, b!", "b a", "a b c")
    values, offsets = windows(find_words(texts), 3, short=True)
    assert offsets.tolist() == [0, 1, 1, 2, 3, 4]
    assert values[0] == values[1] and len(set(values.tolist())) == 3
    assert len(windows(find_words(texts), 3)[0]) == 1


def test_blocks_hold_every_text_once():
    texts = column("x" * 10, "y" * (3 * BLOCK), "", *["z" * (BLOCK // 4)] * 9).slice(1)
    found = list(blocks(texts))
    assert pa.concat_arrays(found).equals(texts)
    assert [len(each) for each in found] == [1, 5, 4, 1]
    assert list(blocks(column())) == []
