"""Gopher's repetition rules against a plain count of the same things."""

import random
from collections import Counter

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from genus.prepare.batches import batches_of
from genus.prepare.items import Document
from genus.prepare.steps.layout import Layout
from genus.prepare.steps.repetition import Repetition, repeated, runs

WORDS = [f"word{i}" for i in range(400)]


def judge(*texts: str, **settings: object) -> list[str | None]:
    batch = next(batches_of(Document(text) for text in texts))
    reasons = {drop.row: drop.reason for drop in Repetition(**settings).ready()(batch).drops}  # type: ignore[arg-type]
    return [reasons.get(i) for i in range(len(texts))]


def plain_counts(text: str, longest: int) -> tuple[list[int], list[int]]:
    """For 2, 3, ... words: characters in the most frequent run that occurs twice, and in all runs that stood before."""
    words, spans, at = text.split(), [], 0
    for word in words:
        at = text.index(word, at)
        spans.append((at, at + len(word)))
        at += len(word)
    most, covered = [], []
    for size in range(2, longest + 1):
        grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
        length = {gram: spans[i + size - 1][1] - spans[i][0] for i, gram in reversed(list(enumerate(grams)))}
        counts = Counter(grams)
        best = max(((n, length[gram]) for gram, n in counts.items() if n > 1), default=(0, 0))
        most.append(best[0] * best[1])
        marked, seen = set(), set()
        for i, gram in enumerate(grams):
            if gram in seen:
                marked |= set(range(spans[i][0], spans[i + size - 1][1]))
            seen.add(gram)
        covered.append(len(marked))
    return most, covered


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "bb", "cé", "ddd dd", "b a"]), max_size=40).map(" ".join), min_size=1, max_size=4))
def test_runs_of_words_are_counted_as_by_hand(texts: list[str]) -> None:
    layout = Layout(pa.array(texts, type=pa.large_string()))
    counted = [plain_counts(text, 6) for text in texts]
    for found in runs(layout, layout.words, (0.0, 0.0, 0.0, 0.0, 0.0), 2):
        assert found.most_frequent().tolist() == [most[found.size - 2] for most, _ in counted]
        assert found.covered().tolist() == [covered[found.size - 2] for _, covered in counted]


def test_only_texts_near_the_limit_are_counted_and_the_others_are_below_it() -> None:
    dice = random.Random(1)
    texts = [" ".join(dice.choices(WORDS[: 3 + 40 * i], k=300)) for i in range(6)]
    layout = Layout(pa.array(texts, type=pa.large_string()))
    found = next(iter(runs(layout, layout.words, (0.05, 0.1), 1))).most_frequent()
    for i, text in enumerate(texts):
        most = plain_counts(text, 2)[0][0]
        assert found[i] == most or (found[i] == 0 and most <= 0.05 * len(text))
    assert found[0] > 0 and 0 in found[1:]


def test_repeated_lines_are_those_that_stood_before_in_the_same_text() -> None:
    layout = Layout(pa.array(["a\nb\na\n\n a", "a\nc", ""], type=pa.large_string()))
    assert repeated(layout, layout.lines).tolist() == [False, False, True, True, False, False]


def test_each_rule_drops_what_it_names() -> None:
    prose = " ".join(random.Random(2).sample(WORDS, 300))
    lines = "\n".join(" ".join(WORDS[i : i + 8]) for i in range(0, 80, 8))
    menu = lines + "\n" + "\n".join(["Home page here"] * 6)
    assert judge(prose, menu, f"{lines}\n\n{lines}", "buy now " * 80, prose + " " + prose[:900]) == [
        None,
        "repeated lines",
        "repeated paragraphs",
        "one phrase again and again",
        "repeated phrases",
    ]
    off = dict.fromkeys(("lines", "line_characters", "paragraphs", "paragraph_characters"), 1.0)
    assert judge(menu, f"{lines}\n\n{lines}", "buy now " * 80, top=(1.0,) * 3, runs=(1.0,) * 6, **off) == [None] * 3


def test_chinese_is_not_measured_in_english_words() -> None:
    text = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"
    assert judge(text, (text + " ") * 20) == [None, None]
    assert judge("\n".join([text] * 5)) == ["repeated lines"]
