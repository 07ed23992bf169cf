"""Beam search against listing every text, against greedy decoding, and against itself on one prompt at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import genus
from genus.generate.beam import Beam, beam_search
from genus.generate.engine import Engine
from genus.generate.sequence import Request
from genus.run import Loaded

EVERY = ["gpt2", "lstm", "llama", "transformer", "t5", "rnnsearch", "rnn-encoder-decoder"]
PROMPTS = ["A dog", "", "Two men are talking to", "x" * 30]


class Letters:
    """A tokenizer of five letters, the last of which ends a text."""

    vocab_size, bos_id, eos_id = 5, 0, 4


def _tiny(small: Callable[..., Loaded], name: str) -> Engine:
    return Engine(small(name, vocab=5, depth=1, hidden=12).model, Letters())  # type: ignore[arg-type]


def _request(engine: Engine, prompt: tuple[int, ...] = (0, 2), **options: Any) -> Request:
    source = (1, 3, 2, 4) if engine.model.spec.encoder is not None else None
    return Request((0,) if source else prompt, source=source, **options)


def _log_p(engine: Engine, request: Request, ids: tuple[int, ...]) -> float:
    """Of new tokens, by one forward pass."""
    whole = torch.tensor([[*request.ids, *ids]])
    source = {} if request.source is None else {"source": torch.tensor([request.source])}
    with torch.no_grad():
        scores = engine.model(whole[:, :-1], **source).log_softmax(-1)[0, len(request.ids) - 1 :]
    return float(scores.gather(1, torch.tensor(ids)[:, None]).sum())


@pytest.mark.parametrize("name", ["gpt2", "transformer", "rnnsearch"])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_wide_beam_finds_the_best_of_all_texts(small: Callable[..., Loaded], name: str, alpha: float) -> None:
    """Texts of up to three letters: wide enough, the search leaves none out."""
    engine = _tiny(small, name)
    request = _request(engine, max_tokens=3)
    texts = [(*body, 4) for n in range(3) for body in itertools.product(range(4), repeat=n)]
    texts += list(itertools.product(range(4), repeat=3))
    beam = Beam(200, alpha)
    expected = sorted(((beam.score(_log_p(engine, request, ids), len(ids)), ids) for ids in texts), reverse=True)
    ((_, found),) = beam_search(engine, [request], beam)
    assert len(found) == len(texts)
    assert [h.score for h in found] == pytest.approx([score for score, _ in expected], abs=1e-4)
    assert found[0].ids == expected[0][1]
    assert all((h.finish == "end") == (h.ids[-1] == 4) for h in found)
    assert found[0].log_p == pytest.approx(_log_p(engine, request, found[0].ids), abs=1e-4)


def test_length_penalty() -> None:
    """Wu et al. 2016, eq. 14."""
    assert Beam(4, 0.6).score(-3.0, 10) == pytest.approx(-3.0 * 6**0.6 / 15**0.6)
    assert Beam(4, 0.0).score(-3.0, 10) == -3.0
    assert Beam(4, 1.0).score(-2.0, 1) == -2.0


@pytest.mark.parametrize("name", EVERY)
def test_a_beam_of_one_is_greedy(small: Callable[..., Loaded], name: str) -> None:
    loaded = small(name)
    greedy = genus.generate(loaded, PROMPTS, max_tokens=12, temperature=0)
    found = genus.generate(loaded, PROMPTS, max_tokens=12, beam=1)
    assert [g.ids for g in greedy] == [f.ids for f in found]
    assert [str(g) for g in greedy] == [str(f) for f in found]


@pytest.mark.parametrize("name", EVERY)
def test_a_batch_is_its_prompts(small: Callable[..., Loaded], name: str) -> None:
    loaded = small(name)
    together = genus.generate(loaded, PROMPTS, max_tokens=9, beam=3, number=3)
    alone = [g for p in PROMPTS for g in genus.generate(loaded, p, max_tokens=9, beam=3, number=3)]
    assert [(g.ids, g.sample, g.finish) for g in together] == [(g.ids, g.sample, g.finish) for g in alone]
    assert [g.score for g in together] == pytest.approx([g.score for g in alone], rel=1e-4)
    scores = [[g.score for g in together[i : i + 3]] for i in range(0, 12, 3)]
    assert all(s == sorted(s, reverse=True) for s in scores)


def test_it_finds_what_greedy_misses(small: Callable[..., Loaded]) -> None:
    engine = _tiny(small, "rnnsearch")
    request = _request(engine, max_tokens=6)
    ((_, narrow),) = beam_search(engine, [request], Beam(1, 0.0))
    ((_, wide),) = beam_search(engine, [request], Beam(8, 0.0))
    assert wide[0].log_p > narrow[0].log_p + 0.01
    assert math.isclose(wide[0].log_p, _log_p(engine, request, wide[0].ids), abs_tol=1e-4)


def test_a_table_of_positions_ends_the_search(small: Callable[..., Loaded]) -> None:
    loaded = small("gpt2", context=16)
    found = genus.generate(loaded, "0123456789", max_tokens=50, beam=2)
    assert isinstance(found, genus.generate.Generation)
    assert len(found.ids) <= 16 - 11 + 1 and found.finish in ("length", "end")


def test_more_kinds_of_end(small: Callable[..., Loaded]) -> None:
    model = small("transformer", vocab=5, depth=1).model
    engine = Engine(model, Letters(), ends=[1])  # type: ignore[arg-type]
    ((_, found),) = beam_search(engine, [_request(engine, max_tokens=4)], Beam(3))
    assert all(set(h.ids[:-1]) <= {0, 2, 3} for h in found)


def test_wishes_that_cannot_be_met(small: Callable[..., Loaded]) -> None:
    with pytest.raises(ValueError, match="wider"):
        genus.generate(small("gpt2"), "x", beam=2, number=3)
    with pytest.raises(ValueError, match="stop strings"):
        genus.generate(small("gpt2"), "x", beam=2, stop="y")
    with pytest.raises(ValueError, match="at least 1"):
        Beam(0)
    engine = _tiny(small, "transformer")
    with pytest.raises(ValueError, match="needs a source"):
        next(beam_search(engine, [Request((0,))]))
