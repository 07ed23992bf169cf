"""Loss along the context: text that repeats, a model that can use it and one that cannot."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from genus.evaluate.probes.position import _borders, context, position


@dataclass
class Held:
    """A split in memory."""

    documents: list[np.ndarray]

    @property
    def ends(self) -> np.ndarray:
        return np.cumsum([len(d) for d in self.documents])

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.concatenate(self.documents)[start:stop]


def _periodic(count: int, length: int, period: int = 20) -> Held:
    """Documents that repeat their first tokens for ever; the end token is 0."""
    rng = np.random.default_rng(0)
    starts = [1 + rng.permutation(38)[:period] for _ in range(count)]
    return Held([np.append(np.resize(s, length - 1), 0).astype(np.uint16) for s in starts])


def test_a_model_that_uses_its_context(subject) -> None:
    split = _periodic(40, 128)
    found, blind = context(subject(1, split=split)), context(subject(0, split=split))
    name = "in-context-learning score (nats)"
    assert found.figures[name] == pytest.approx(-math.log(39), rel=0.05) and found.score == 1.0
    assert blind.figures[name] == pytest.approx(0.0, abs=1e-6) and abs(blind.score) < 0.2
    assert "positions 11–14 and 124–127 of 128 (the 50th and the 500th of 512, scaled); 40 windows of 128" in found.about
    low, high = found.intervals[name]
    assert low <= found.figures[name] <= high


def test_loss_by_position(subject) -> None:
    split = _periodic(40, 128)
    found, blind = position(subject(1, split=split)), position(subject(0, split=split))
    curve = found.curves[0]
    assert curve.x[:4] == (1.0, 2.0, 3.0, 4.0) and curve.loss[0] == pytest.approx(math.log(39), rel=1e-3)
    assert curve.verdict.verdict == "sharp" and 10 <= curve.verdict.at <= 21  # the text repeats from the 21st token on
    assert blind.curves[0].verdict.verdict == "flat"
    assert found.loss < 0.2 < blind.loss


def test_bins_hold_every_position_once() -> None:
    for length in (16, 17, 100, 128, 1024):
        borders = _borders(length)
        assert borders[0] == 0 and borders[-1] == length and np.all(np.diff(borders) > 0)
        assert borders[-1] / borders[-2] <= 2


def test_windows_begin_with_what_stands_before_them(subject) -> None:
    one = subject(0, length=32, split=Held([np.append(np.arange(100) % 38 + 1, 0)]))
    inputs, targets = one._rows(np.array([101]), 32)
    assert inputs[0, 0] == one.tokenizer.bos_id and inputs[1, 0] == targets[0, -1] and len(inputs) == 3
    assert (inputs[:, 1:] == targets[:, :-1]).all()


def test_short_documents(subject) -> None:
    many = subject(0, split=_periodic(30, 40))
    assert many.text.log_probs.shape == (30, 32) and "read over 32 positions, not 128" in many.notes[0]
    with pytest.raises(ValueError, match="the longest document has 10 tokens and the probes 'context' and 'position' need 16"):
        position(subject(0, split=_periodic(30, 10)))
    with pytest.raises(ValueError, match="'context' and 'position' read text: give DATA"):
        position(subject(0))
