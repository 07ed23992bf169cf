"""Few-shot slope: a model that copies the label of the same text, and one that does not look."""

from __future__ import annotations

import pytest

from genus.evaluate.probes.labels import Example
from genus.evaluate.probes.shots import shots

EXAMPLES = tuple(Example(text, "good" if text in "abc" else "bad") for text in "abcdef" * 8)


def test_a_model_that_learns_from_examples(subject) -> None:
    found, blind = shots(subject(2, labels=EXAMPLES)), shots(subject(0, labels=EXAMPLES))
    curve = found.curves[0]
    assert curve.x == (0, 1, 2, 4, 8) and len(curve.score) == 5
    assert found.score > 0.75 > 0.6 > curve.score[0]  # one of 8 examples has the same text in 8 of 10 cases
    assert curve.loss[-1] < curve.loss[0] - 3 and found.figures["margin per doubling of 1 + shots (nats)"] > 1
    assert blind.figures["margin per doubling of 1 + shots (nats)"] == pytest.approx(0.0, abs=1e-3)
    assert blind.curves[0].verdict.verdict == "flat"
    assert found.figures["accuracy of the commonest label"] == 0.5


def test_no_more_shots_than_there_is_room_for(subject) -> None:
    few = subject(2, length=24, labels=EXAMPLES)
    assert shots(few).curves[0].x == (0, 1, 2)
    assert "up to 2; the context of 24 positions has no room for more" in few.notes[0]
    with pytest.raises(ValueError, match=r"the context is too short for the probe 'shots'.*read over 10"):
        shots(subject(2, length=10, labels=EXAMPLES))


def test_what_is_missing(subject) -> None:
    with pytest.raises(ValueError, match="give --labels FILE"):
        shots(subject(0))
    alike = (Example("a", "x"), Example("b", "é"), Example("c", "è"))
    with pytest.raises(ValueError, match="writes the labels 'è' and 'é' alike"):
        shots(subject(0, labels=alike))
