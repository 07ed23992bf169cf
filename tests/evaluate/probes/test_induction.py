"""Repeated random sequences: a model that copies, models that cannot, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from genus import recipes
from genus.evaluate.probes.induction import induction
from genus.evaluate.probes.reading import Subject
from genus.parts.ngram import NGram


def test_a_model_that_copies(subject) -> None:
    result = induction(subject(1))
    assert result.kind == "read" and result.score == 1.0 and result.loss < 0.01
    assert result.figures["gain (nats)"] == pytest.approx(math.log(39), rel=0.01)  # from uniform to certain
    low, high = result.intervals["gain (nats)"]
    assert low <= result.figures["gain (nats)"] <= high


def test_models_that_cannot(subject) -> None:
    blind = induction(subject(0))
    assert blind.score < 0.1 and abs(blind.figures["gain (nats)"]) < 0.01
    assert blind.curves[0].verdict.verdict == "flat"
    copier = subject(1)
    counted = NGram(order=3, vocab=copier.tokenizer.vocab_size).build()
    found = induction(Subject("counted", counted, counted.spec, copier.tokenizer, 64))
    assert found.score < 0.1 and abs(found.figures["gain (nats)"]) < 1e-6
    spec = recipes.make("lstm", dim=16, depth=1, vocab=copier.tokenizer.vocab_size).model
    torch.manual_seed(0)
    untrained = induction(Subject("untrained", spec.build().eval(), spec, copier.tokenizer, 64))
    assert untrained.score < 0.15 and abs(untrained.figures["gain (nats)"]) < 0.2


def test_halves_fit_the_context_and_the_vocabulary(subject) -> None:
    assert induction(subject(1, length=128)).curves[0].x == (4, 8, 16)  # 38 ordinary tokens: at most 19 different ones
    assert induction(subject(1, length=16)).curves[0].x == (4, 8)


def test_what_is_too_small(subject) -> None:
    with pytest.raises(ValueError, match="'induction' needs a context of at least 16 positions and by hand is read over 15"):
        induction(subject(1, length=15))
    small = subject(1)
    small.ordinary = small.ordinary[:10]
    with pytest.raises(ValueError, match="vocabulary of at least 16 ordinary tokens, and by hand has 10"):
        induction(small)


def test_what_sees_both_sides_is_refused(subject) -> None:
    spec = recipes.make("bert", dim=16, depth=1, heads=2, vocab=64).model
    with pytest.raises(ValueError, match="sees both sides"):
        Subject("bert", None, spec, subject(0).tokenizer, 64)
