"""Speculative decoding: the greedy text exactly, and of drawn tokens the same distribution, whatever the draft is worth."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import genus
from genus.generate.constraint import Constraint
from genus.generate.engine import Engine
from genus.generate.replay import Replays
from genus.generate.sampling import Sampling, probabilities
from genus.generate.sequence import Request
from genus.generate.sequence import Sequence as Row
from genus.generate.speculative import Speculative, accept, agreed
from genus.generate.taped import TapedPass, TapedStep
from genus.generate.texts import Generator
from genus.ops.dispatch import forced
from genus.ops.tape import replayer
from genus.prepare.tokenizer import bytes_tokenizer, characters
from genus.run import Loaded
from genus.train.kneser_ney import estimate

PROMPTS = ["A dog", "", "Two men are talking to", "x" * 30]
TEXT = b"Two men are talking to a dog. A dog and two men. " * 4


def odd(counts: Counter[Any], expected: dict[Any, float]) -> float:
    """How many standard deviations the chi-square statistic of some counts lies above what chance gives."""
    total = sum(counts.values())
    assert set(counts) <= {key for key, p in expected.items() if p > 0}
    likely = {key: p for key, p in expected.items() if p * total >= 5}
    rest = 1 - sum(likely.values())
    cells = [(counts[key], p * total) for key, p in likely.items()]
    if rest * total >= 5:
        cells.append((total - sum(counts[key] for key in likely), rest * total))
    statistic, freedom = sum((n - e) ** 2 / e for n, e in cells), len(cells) - 1
    return (statistic - freedom) / math.sqrt(2 * freedom)


def test_tokens_that_are_kept_or_replaced_have_the_large_models_distribution() -> None:
    torch.manual_seed(1)
    dice = random.Random(1)
    p, q = (torch.randn(3, 4).double().mul(1.5).softmax(-1) for _ in range(2))
    expected = {(a, b): float(p[0, a] * p[1, b]) for a in range(4) for b in range(4)}
    found: Counter[Any] = Counter()
    for _ in range(5000):
        proposed = [dice.choices(range(4), q[place].tolist())[0] for place in range(2)]
        made = accept(p, q[:2], proposed, dice.random)
        while len(made) < 2:  # the next round
            made += accept(p[len(made) :][:1], q[:0], [], dice.random)
        found[tuple(made[:2])] += 1
    assert odd(found, expected) < 4
    assert odd(found, {(a, b): float(q[0, a] * p[1, b]) for a in range(4) for b in range(4)}) > 20


def test_equal_distributions_keep_everything() -> None:
    p = torch.tensor([[0.3, 0.7], [0.5, 0.5], [1.0, 0.0]]).double()
    dice = random.Random(0)
    assert all(accept(p, p[:2], [0, 1], dice.random) == [0, 1, 0] for _ in range(200))


def test_at_temperature_zero_tokens_are_kept_while_they_agree() -> None:
    assert agreed([1, 2, 3], [1, 2]) == [1, 2, 3]
    assert agreed([1, 2, 3], [1, 9]) == [1, 2]
    assert agreed([1, 2, 3], [9, 2]) == [1]
    assert agreed([4], []) == [4]


@pytest.fixture
def ngram(tmp_path: Path) -> Loaded:
    """A 4-gram model of a few bytes."""

    class Text:
        stream = np.array([*TEXT, 256], np.uint16)
        tokens, ends = len(stream), np.array([len(stream)])

        def read(self, start: int, stop: int) -> np.ndarray:
            return self.stream[start:stop]

    model = estimate(Text(), 4, 257, 256, 256, tmp_path / "ngram")
    return Loaded(model.eval(), model.spec, bytes_tokenizer(), tmp_path, {})


def noisy(loaded: Loaded, amount: float) -> Loaded:
    """A model that often agrees with another."""
    model = loaded.spec.build()
    model.load_state_dict(loaded.model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += amount * parameter.std(correction=0) * torch.randn_like(parameter)
    return replace(loaded, model=model.eval())


@pytest.mark.parametrize("name", ["llama", "gpt2", "lstm", "deltanet", "mistral", "transformer", "rnnsearch"])
def test_greedy_texts_are_the_same(small: Callable[..., Loaded], ngram: Loaded, name: str) -> None:
    """With drafts that agree often, seldom and never; one of them slides over its positions with the model."""
    loaded = small(name)
    plain = genus.generate(loaded, PROMPTS, max_tokens=20, temperature=0)
    for draft in (noisy(loaded, 0.1), ngram, small("gru"), loaded):
        generator = Generator(loaded, max_tokens=20, sampling=Sampling(0), draft=draft, draft_tokens=3)
        assert [t.ids for t in generator(PROMPTS)] == [t.ids for t in plain]
        proposed, kept = generator.guessed
        assert proposed > 0 and (kept == proposed if draft is loaded else kept < proposed)


@pytest.mark.parametrize(
    ("name", "batch", "weights", "dtype"),
    [("llama", 1, "int8", "bf16"), ("llama", 3, "bf16", "fp32"), ("gpt2", 1, "int4", "bf16"), ("gpt2", 3, "bf16", "bf16")],
)
def test_checks_are_recorded_and_the_text_stays(
    small: Callable[..., Loaded],
    ngram: Loaded,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    batch: int,
    weights: str,
    dtype: str,
) -> None:
    """With the kernels in C, replayed and not, and with references in their place."""
    loaded, recorded, record = small(name, context=200), set(), TapedStep.record

    def seen(one: TapedPass, room: int) -> TapedStep:
        recorded.add(tuple(one.x.shape[:2]))
        return record(one, room)

    monkeypatch.setattr(TapedStep, "record", seen)
    options: dict[str, Any] = {"max_tokens": 24, "sampling": Sampling(0), "batch": batch, "weights": weights, "dtype": dtype}
    prompts = PROMPTS[:batch]
    plain = [t.ids for t in Generator(loaded, **options)(prompts)]
    for draft in (noisy(loaded, 0.1), ngram):
        recorded.clear()
        generator = Generator(loaded, draft=draft, draft_tokens=3, **options)
        assert [t.ids for t in generator(prompts)] == plain
        assert (batch, 4) in recorded or replayer() is None
    with monkeypatch.context() as context:
        context.setattr(Replays, "takes", lambda *_: False)
        assert [t.ids for t in generator(prompts)] == plain
    options["dtype"] = "fp32"  # in bf16 torch's attention rounds otherwise for one position than for several
    with forced(decode_attention="reference", rotary="reference"):
        generator = Generator(loaded, draft=noisy(loaded, 0.1), draft_tokens=3, **options)
        plain = [t.ids for t in Generator(loaded, **options)(prompts)]
        assert [t.ids for t in generator(prompts)] == plain


def test_a_text_may_outgrow_the_positions_of_either(small: Callable[..., Loaded]) -> None:
    long, short = small("gpt2", context=24), small("gpt2", context=12)
    for loaded, draft in ((long, short), (short, long), (small("llama"), short)):
        plain = genus.generate(loaded, ["abc", "0123456789"], max_tokens=40, temperature=0)
        guessed = genus.generate(loaded, ["abc", "0123456789"], max_tokens=40, temperature=0, draft=draft, draft_tokens=5)
        assert [t.ids for t in guessed] == [t.ids for t in plain]


class Letters:
    """A tokenizer of five letters, the last of which ends a text."""

    vocab_size, bos_id, eos_id, special_ids, byte_level = 5, 0, 4, frozenset([4]), False

    _letters = characters("abcd")

    def stream(self) -> Any:
        return self._letters.stream()


def exact(engine: Engine, request: Request) -> dict[tuple[int, ...], float]:
    """The probability of every text of up to three letters, by one forward pass for each beginning."""
    found: dict[tuple[int, ...], float] = {(): 1.0}
    for depth in range(3):
        for ids in [ids for ids in itertools.product(range(4), repeat=depth) if ids in found]:
            logits = engine.model(torch.tensor([[*request.ids, *ids]]))[:, -1, :5]
            p = probabilities(logits, [request.sampling])[0]
            before = found.pop(ids)
            found |= {(*ids, token): before * float(p[token]) for token in range(5) if float(p[token]) > 0}
    return found


def sampled(engine: Engine, request: Request, count: int, decoder: Speculative | None) -> Counter[Any]:
    requests = [replace(request, seed=seed) for seed in range(count)]
    return Counter(tuple(row.new_ids) for _, _, row in engine.run(requests, 250, decoder) if row.finish is not None)


@pytest.mark.parametrize("sampling", [Sampling(1.0), Sampling(0.7, top_k=4, top_p=0.95)])
@pytest.mark.parametrize("tokens", [1, 3])
@torch.inference_mode()
def test_drawn_texts_have_the_same_distribution(small: Callable[..., Loaded], sampling: Sampling, tokens: int) -> None:
    tokenizer: Any = Letters()
    engine, draft = (Engine(small(name, vocab=5, depth=1, hidden=12).model, tokenizer) for name in ("llama", "lstm"))
    request = Request((0, 2), max_tokens=3, sampling=sampling)
    expected = exact(engine, request)
    assert sum(expected.values()) == pytest.approx(1)
    decoder = Speculative(draft, tokens)
    assert odd(sampled(engine, request, 2500, decoder), expected) < 4
    assert 0 < decoder.kept < decoder.proposed
    others = exact(draft, request)
    if set(others) <= set(expected):  # the draft's own texts are told apart
        assert odd(sampled(draft, request, 2500, None), expected) > 10


def test_a_row_is_drawn_as_if_it_were_alone(small: Callable[..., Loaded]) -> None:
    loaded, draft = small("llama"), small("gru")
    options: dict[str, Any] = {"max_tokens": 15, "temperature": 0.9, "top_p": 0.9, "draft": draft, "seed": 3}
    together = genus.generate(loaded, PROMPTS, **options)
    assert [t.ids for t in together] == [genus.generate(loaded, p, **options).ids for p in PROMPTS]
    assert [t.ids for t in together] == [t.ids for t in genus.generate(loaded, PROMPTS, batch=2, **options)]


def test_rules_and_reports_are_the_same(small: Callable[..., Loaded]) -> None:
    """Penalties, bias, constraint, stop strings and log-probabilities at temperature 0."""
    pytest.importorskip("llguidance")
    loaded, wishes = small("llama"), []
    draft = noisy(loaded, 0.1)
    wishes.append({"presence_penalty": 2.0, "repetition_penalty": 1.3, "logit_bias": {101: 1.0}})
    wishes.append({"constraint": Constraint.regex("([a-d]{2} )*[0-9]{3}")})
    free = genus.generate(loaded, "x", max_tokens=20, temperature=0)
    wishes.append({"stop": [free.text[4:6]]})
    for wish in wishes:
        options: dict[str, Any] = {"max_tokens": 20, "temperature": 0, "logprobs": 2, **wish}
        plain = genus.generate(loaded, ["x", "Go on"], **options)
        guessed = genus.generate(loaded, ["x", "Go on"], draft=draft, **options)
        assert [(t.text, t.ids, t.finish) for t in guessed] == [(t.text, t.ids, t.finish) for t in plain]
        for a, b in zip(plain, guessed):
            assert [c.log_p for c in b.choices] == pytest.approx([c.log_p for c in a.choices], abs=1e-4)
            assert [[token for token, _ in c.top] for c in a.choices] == [[token for token, _ in c.top] for c in b.choices]


def test_constrained_texts_that_are_drawn(small: Callable[..., Loaded]) -> None:
    pytest.importorskip("llguidance")
    constraint = Constraint.choice(["yes", "no", "maybe"])
    texts = genus.generate(small("gpt2"), "Is it?", number=60, constraint=constraint, draft=small("lstm"), temperature=2.0)
    assert {t.text for t in texts} == {"yes", "no", "maybe"} and {t.finish for t in texts} == {"end"}


def test_rows_come_and_go(small: Callable[..., Loaded]) -> None:
    """Texts of different length, more of them than rows."""
    loaded = small("lstm")
    engine, draft = (Engine(m.model, loaded.tokenizer) for m in (loaded, noisy(loaded, 0.1)))
    requests = [Request((256, *p.encode()), max_tokens=n, sampling=Sampling(0)) for n, p in zip((1, 9, 3, 20, 2, 7), PROMPTS * 2)]

    def run(decoder: Speculative | None) -> Sequence[list[int]]:
        rows: dict[int, Row] = {i: row for i, _, row in engine.run(requests, 2, decoder)}
        return [rows[i].new_ids for i in range(len(requests))]

    assert run(Speculative(draft)) == run(None)


def test_drafts_that_do_not_fit_are_refused(small: Callable[..., Loaded]) -> None:
    loaded = small("llama")
    other = replace(small("lstm", vocab=300), tokenizer=characters("abc"), path=Path("runs/other"))
    with pytest.raises(ValueError, match=r"another tokenizer.*genus prepare --tokenizer"):
        Generator(loaded, draft=other)
    with pytest.raises(ValueError, match="reads a source"):
        Generator(loaded, draft=small("transformer"))
    with pytest.raises(ValueError, match="both sides"):
        Generator(loaded, draft=small("bert"))
    with pytest.raises(ValueError, match="at least 1"):
        genus.generate(loaded, "x", draft=loaded, draft_tokens=0)
