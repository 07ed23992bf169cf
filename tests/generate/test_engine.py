"""The engine against the plain definition: a full forward pass without a cache for every token."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import genus
from genus.generate.engine import Engine
from genus.generate.sampling import Sampling
from genus.generate.scheduler import Scheduler
from genus.generate.sequence import Request, Sequence
from genus.prepare.tokenizer import bytes_tokenizer
from genus.run import Loaded
from genus.train.kneser_ney import estimate

GREEDY = Sampling(0)
PROMPTS = [b"In the beginning", b"Go", b"And God said, Let there be light", b"x"]
RECIPES = [s.name for s in genus.recipes.systems() if s.generates and s.branch != "counting"]


def request(text: bytes, **options: object) -> Request:
    return Request((256, *text), **{"max_tokens": 12, "sampling": GREEDY, **options})


def run(loaded: Loaded, requests: list[Request], batch: int = 16) -> list[Sequence]:
    engine = Engine(loaded.model, loaded.tokenizer)
    rows = {i: row for i, _, row in engine.run(requests, batch)}
    return [rows[i] for i in range(len(requests))]


@torch.inference_mode()
def without_cache(loaded: Loaded, request: Request) -> list[int]:
    ids = list(request.ids)
    for _ in range(request.max_tokens):
        logits = loaded.model(torch.tensor([ids]))[0, -1]
        ids.append(int(logits.argmax()))
        if ids[-1] == 256:
            break
    return ids[len(request.ids) :]


@pytest.mark.parametrize("name", RECIPES)
def test_greedy_is_the_argmax_of_a_full_forward(small: Callable[..., Loaded], name: str) -> None:
    loaded = small(name)
    requests = [request(p) for p in PROMPTS]
    rows = run(loaded, requests)
    for row, asked in zip(rows, requests):
        assert row.new_ids == without_cache(loaded, asked), row.text
    assert len({tuple(row.new_ids) for row in rows}) > 1  # the models do say different things


@pytest.mark.parametrize("name", RECIPES)
def test_sampled_batch_is_alone(small: Callable[..., Loaded], name: str) -> None:
    loaded = small(name)
    requests = [
        request(p, max_tokens=4 + 5 * i, seed=i, sampling=Sampling(0.7 + i / 10, top_k=(0, 20)[i % 2], top_p=0.95))
        for i, p in enumerate(PROMPTS)
    ]
    together = [row.new_ids for row in run(loaded, requests)]
    alone = [run(loaded, [r])[0].new_ids for r in requests]
    by_two = [row.new_ids for row in run(loaded, requests, batch=2)]
    assert together == alone == by_two


def test_an_ngram_generates_through_the_same_engine(tmp_path: Path) -> None:
    text = Text(b"In the beginning God created the heaven and the earth. " * 3 + b"And God said, Go.")
    model = estimate(text, 4, 257, 256, 256, tmp_path / "model")
    loaded = Loaded(model.eval(), model.spec, bytes_tokenizer(), tmp_path, {})
    requests = [request(p, max_tokens=20) for p in (b"In the", b"", b"And God")]
    rows = run(loaded, requests)
    for row, asked in zip(rows, requests):
        assert row.new_ids == without_cache(loaded, asked)
    assert rows[0].text.startswith(" earth. ")
    sampled = [request(p, max_tokens=30, seed=i, sampling=Sampling(1.3)) for i, p in enumerate(PROMPTS)]
    assert [r.new_ids for r in run(loaded, sampled)] == [run(loaded, [r])[0].new_ids for r in sampled]


class Text:
    """One document, with the interface of a prepared split."""

    def __init__(self, text: bytes) -> None:
        self.stream = np.array([*text, 256], np.uint16)
        self.tokens, self.ends = len(self.stream), np.array([len(self.stream)])

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.stream[start:stop]


def test_rows_leave_when_they_end(small: Callable[..., Loaded]) -> None:
    loaded = small("llama")
    scheduler = Scheduler(Engine(loaded.model, loaded.tokenizer))
    for text, count in zip(PROMPTS, (1, 3, 2, 3)):
        scheduler.submit(request(text, max_tokens=count))
    widths = []
    while scheduler.busy:
        widths.append(len(scheduler.step()))
    assert widths == [4, 3, 2]


def test_the_end_token_ends_and_gives_no_text(small: Callable[..., Loaded]) -> None:
    loaded = small("gpt2", vocab=257)
    first = run(loaded, [request(b"A", max_tokens=5)])[0].new_ids
    engine = Engine(loaded.model, loaded.tokenizer, ends=[first[2]])
    row = [row for _, _, row in engine.run([request(b"A", max_tokens=5)])][-1]
    assert row.finish == "end"
    assert row.new_ids == first[: first.index(first[2]) + 1]
    assert row.text == loaded.tokenizer.decode(row.new_ids[:-1])


def test_long_prompts_are_read_in_pieces(small: Callable[..., Loaded], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = small("mistral")
    requests = [request(p * 2) for p in PROMPTS]
    whole = [r.new_ids for r in run(loaded, requests)]
    monkeypatch.setattr("genus.generate.engine.PREFILL", 5)
    assert [r.new_ids for r in run(loaded, requests)] == whole


def test_learned_positions_slide_by_half(small: Callable[..., Loaded]) -> None:
    """Past the table of positions, a row goes on from the last half of the context, as if that were its prompt."""
    loaded = small("gpt2", context=16)
    asked = request(b"0123456789", max_tokens=30)
    row = run(loaded, [asked])[0]
    assert len(row.new_ids) == 30 and row.finish == "length"
    ids, first = list(asked.ids), 0
    for _ in range(30):
        if len(ids) - first > 16:
            first = len(ids) - 8
        with torch.inference_mode():
            ids.append(int(loaded.model(torch.tensor([ids[first:]]))[0, -1].argmax()))
    assert row.ids == ids
    together = run(loaded, [asked, request(b"ab", max_tokens=40), request(b"abcdefghijklmno", max_tokens=5)])
    assert together[0].ids == ids


def test_a_prompt_longer_than_the_positions_is_refused(small: Callable[..., Loaded]) -> None:
    loaded = small("gpt2", context=16)
    with pytest.raises(ValueError, match="17 tokens and this model has positions for 16"):
        run(loaded, [request(b"0123456789abcdef")])


def test_a_table_larger_than_the_vocabulary(small: Callable[..., Loaded]) -> None:
    """Rows that pad the embedding to a round number are never chosen."""
    loaded = small("llama", vocab=320)
    with torch.no_grad():
        loaded.model.head.weight[257:] *= 50
    for row in run(loaded, [request(p, sampling=Sampling(1.5)) for p in PROMPTS]):
        assert max(row.new_ids) < 257


def test_training_mode_is_refused(small: Callable[..., Loaded]) -> None:
    loaded = small("gpt2")
    with pytest.raises(ValueError, match="eval"):
        Engine(loaded.model.train(), loaded.tokenizer)
