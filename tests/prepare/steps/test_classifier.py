"""What can be said of the step `classifier` without a model; with one, see tests/tune/test_judge.py."""

from __future__ import annotations

import pytest

from genus.prepare import steps


def test_two_classifiers_do_not_write_over_each_others_scores() -> None:
    first, other = "classifier:model=a,label=good", "classifier:model=b,label=good"
    with pytest.raises(ValueError, match=r"both write classifier\.good: give one a name, such as classifier:name=second"):
        steps.parse([first, other])
    assert [step.column for step in steps.parse([first, f"{other},name=b"])] == ["classifier.good", "classifier.b"]
    assert [step.column for step in steps.parse(["unicode", "classifier:model=c"])] == [None, "classifier"]
