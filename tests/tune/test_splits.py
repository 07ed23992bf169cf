"""Splits keep classes in proportion and equal texts together; leakage is found."""

from __future__ import annotations

from collections import Counter

import pytest

from genus.tune.splits import leakage, splits
from genus.tune.tasks.classification import Classification

TASK = Classification(labels=("a", "b", "c"))


def _rows(**counts: int) -> list[dict[str, str]]:
    return [{"text": f"{label} {i}", "label": label} for label, count in counts.items() for i in range(count)]


def test_every_part_holds_the_classes_in_proportion() -> None:
    rows = _rows(a=60, b=30, c=10)
    for split in splits(TASK, rows, repeats=3):
        parts = (split.train, split.valid, split.test)
        assert sorted(sum(parts, ())) == list(range(100))
        for part, share in zip(parts, (0.65, 0.15, 0.2)):
            assert abs(len(part) - 100 * share) <= 3
            counts = Counter(rows[i]["label"] for i in part)
            assert abs(counts["a"] - 0.6 * len(part)) <= 2 and counts["c"] >= 1
    first, second = splits(TASK, rows, repeats=2)
    assert set(first.test) != set(second.test) and splits(TASK, rows, repeats=2)[1] == second


def test_folds_judge_every_row_once() -> None:
    rows = _rows(a=20, b=11)
    parts = splits(TASK, rows, repeats=1, folds=4)
    assert sorted(i for part in parts for i in part.test) == list(range(31))
    for part in parts:
        assert not set(part.test) & {*part.train, *part.valid} and not set(part.train) & set(part.valid)
        assert 2 <= sum(rows[i]["label"] == "b" for i in part.test) <= 3
    with pytest.raises(ValueError, match="9 folds need at least 9"):
        splits(TASK, _rows(a=4, b=4), repeats=1, folds=9)


def test_a_class_with_one_row_is_learnt_from() -> None:
    rows = _rows(a=20, b=20, c=1)
    assert all(40 in split.train for split in splits(TASK, rows, repeats=5))


def test_sets_that_were_given_are_not_cut() -> None:
    for split in splits(TASK, _rows(a=8, b=8), repeats=2, valid=False, test=False):
        assert len(split.train) == 16 and not split.valid and not split.test


def test_equal_texts_stay_on_one_side() -> None:
    rows = [{"text": f"Text  {i // 3}", "label": "ab"[i // 3 % 2]} for i in range(90)]
    rows[1]["text"] = "text 0 "  # case and spaces do not count
    for split in (*splits(TASK, rows, repeats=3), *splits(TASK, rows, repeats=1, folds=3)):
        sides = [{i // 3 for i in part} for part in (split.train, split.valid, split.test)]
        assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_leakage() -> None:
    train = [*_rows(a=3, b=3), {"text": "a 0", "label": "b"}, {"text": "A  1", "label": "a"}]
    test = [{"text": "a 2", "label": "a"}, {"text": "new", "label": "a"}]
    found = leakage(TASK, train, {"test": test, "validation": []})
    assert found.repeated == 2 and found.contradicting == 1
    assert found.shared == {"test": 1} and found.drop == {2}


def test_pairs_leak_as_pairs() -> None:
    task = Classification(pair="other", labels=("a", "b"))
    train = [{"text": "x", "other": "y", "label": "a"}, {"text": "x", "other": "z", "label": "a"}]
    assert leakage(task, train, {"test": train[:1]}).drop == {0}
