"""Every target of every document, counted once, from exactly what its model may see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genus import recipes
from genus.evaluate import scoring
from genus.evaluate.scoring import Scorer, how, spans
from genus.train.kneser_ney import estimate

VOCAB, BOS = 50, 0


@given(st.integers(1, 60), st.integers(1, 25), st.data())
def test_spans_cover_every_target_once(length: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window))
    found = spans(length, window, stride)
    counted = [t for _, stop, done in found for t in range(done, stop)]
    assert counted == list(range(length))
    for first, stop, done in found:
        assert 0 <= first <= done < stop <= length
        assert stop - first == min(window, length)  # every window is as full as the document allows
        assert done == 0 or (stop - done <= stride and done - first >= window - stride)


def _documents(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, VOCAB, n).astype(np.uint16) for n in lengths]


def _model(name: str, **sizes: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    spec = recipes.make(name, dim=32, vocab=VOCAB, **sizes).model
    model = spec.build()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1 and not getattr(p, "keep_init", False):
                p.normal_(0.0, p.shape[-1] ** -0.5)
    return model.eval(), spec


@torch.no_grad()
def _alone(model: Any, document: np.ndarray, first: int = 0) -> np.ndarray:
    """Scores of one document in one forward pass, begun at target `first`."""
    ids = torch.tensor([[document[first - 1] if first else BOS, *document[first:-1]]], dtype=torch.long)
    return model.score(ids, torch.from_numpy(document[first:].astype(np.int64))[None])[0].numpy()


LENGTHS = (9, 1, 30, 17, 16, 2, 40, 8)


@pytest.mark.parametrize("batch", [1, 40, 8192])
def test_sliding(batch: int) -> None:
    """Against the definition: target t is predicted by the first window that holds it."""
    model, spec = _model("llama", depth=2, heads=2)
    documents = _documents(*LENGTHS)
    scorer = Scorer(model, spec, BOS, window=16, stride=6, batch=batch)
    found = list(scorer(iter(documents)))
    for document, scores in zip(documents, found, strict=True):
        for first, stop, done in spans(len(document), 16, 6):
            expected = _alone(model, document[:stop], first)[done - first :]
            np.testing.assert_allclose(scores[done:stop], expected, atol=1e-4)


def test_a_window_that_holds_the_document_is_one_forward_pass() -> None:
    model, spec = _model("gpt2", depth=2, heads=2, context=64)
    documents = _documents(*LENGTHS)
    for document, scores in zip(documents, Scorer(model, spec, BOS, 64, 32)(documents), strict=True):
        np.testing.assert_allclose(scores, _alone(model, document), atol=1e-4)


def test_a_smaller_stride_sees_more() -> None:
    """With stride 1 each target after the first window has the whole window before it."""
    model, spec = _model("llama", depth=1, heads=2)
    (document,) = _documents(30)
    (scores,) = Scorer(model, spec, BOS, 8, 1)([document])
    for t in range(8, 30):
        np.testing.assert_allclose(scores[t], _alone(model, document[: t + 1], t - 7)[-1], atol=1e-4)


@pytest.mark.parametrize("name", ["gru", "lstm", "nnlm", "fwp", "deltanet"])
@pytest.mark.parametrize("pool", [5, 2**18])
def test_carried_state(name: str, pool: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole document is seen, however it is cut; documents beside it are not."""
    monkeypatch.setattr(scoring, "CARRIED", 7)
    monkeypatch.setattr(scoring, "POOL", pool)
    accepted = {} if name == "nnlm" else {"depth": 2}
    model, spec = _model(name, **accepted)
    assert how(spec) == "carry"
    documents = _documents(*LENGTHS)
    seen = []
    for document, scores in zip(documents, Scorer(model, spec, BOS, 1, 1)(documents, seen.append), strict=True):
        np.testing.assert_allclose(scores, _alone(model, document), atol=2e-4)
    assert sum(seen) == sum(LENGTHS)


class _Split:
    def __init__(self, documents: list[np.ndarray]) -> None:
        self._ids = np.concatenate(documents)
        self.ends = np.cumsum([len(d) for d in documents])
        self.tokens = len(self._ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._ids[start:stop]


def test_n_gram_in_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into windows or not, an n-gram gives what it gives to the document alone."""
    documents = _documents(*LENGTHS, *range(20, 40))
    model = estimate(_Split([*documents, *documents]), 4, VOCAB, BOS, BOS, tmp_path / "ngram", workers=1)
    expected = [_alone(model, d) for d in documents]
    for pool in (2**18, 11):
        monkeypatch.setattr(scoring, "POOL", pool)
        for found, want in zip(Scorer(model, model.spec, BOS, 1, 1)(documents), expected, strict=True):
            np.testing.assert_allclose(found, want, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"), [("bert", "sees both sides"), ("t5", "an encoder-decoder"), ("transformer", "an encoder-decoder")]
)
def test_what_has_no_left_to_right_probability(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        how(recipes.make(name).model)


def test_hybrids_slide() -> None:
    assert how(recipes.make("deltanet-hybrid").model) == "slide"


@pytest.mark.parametrize("stride", [0, 17])
def test_a_stride_that_skips_targets(stride: int) -> None:
    with pytest.raises(ValueError, match="--stride must lie between 1 and the window of 16"):
        Scorer(None, recipes.make("llama").model, BOS, 16, stride)


def test_bfloat16() -> None:
    model, spec = _model("llama", depth=1, heads=2)
    documents = _documents(30, 20)
    exact = np.concatenate(list(Scorer(model, spec, BOS, 16, 8)(documents)))
    low = np.concatenate(list(Scorer(model, spec, BOS, 16, 8, torch.bfloat16)(documents)))
    assert 0 < np.abs(exact - low).max() < 0.3
