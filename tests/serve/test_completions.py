"""/v1/completions, through OpenAI's own client."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

import genus
from genus.generate.sampling import Sampling
from genus.generate.texts import Generator

from .conftest import Site


@pytest.fixture(scope="module")
def client(site: Site) -> OpenAI:
    return OpenAI(base_url=f"{site.url}/v1", api_key="none", max_retries=0)


def test_the_text_is_the_generators(client: OpenAI, folder: Path) -> None:
    for name in ("writer", "memory", "talker"):
        want = Generator(folder / name, max_tokens=20, sampling=Sampling(0.0))(["Once upon"])[0]
        got = client.completions.create(model=name, prompt="Once upon", max_tokens=20, temperature=0)
        assert got.choices[0].text == want.text and got.object == "text_completion" and got.model == name
        assert got.usage is not None and got.usage.completion_tokens == len(want.ids)
    want = Generator(folder / "writer", max_tokens=20, seed=7)(["Once upon"], number=2)
    got = client.completions.create(model="writer", prompt="Once upon", max_tokens=20, seed=7, n=2)
    assert [c.text for c in got.choices] == [w.text for w in want]


def test_an_encoder_decoder_rewrites(client: OpenAI, folder: Path) -> None:
    want = Generator(folder / "rewriter", max_tokens=12, sampling=Sampling(0.0))(["a source"])[0]
    got = client.completions.create(model="rewriter", prompt="a source", max_tokens=12)
    assert got.choices[0].text == want.text


def test_a_stream_is_the_same_text_in_pieces(client: OpenAI) -> None:
    asked = {"model": "writer", "prompt": ["One", "Two"], "max_tokens": 24, "seed": 3, "n": 2, "logprobs": 1}
    whole = client.completions.create(**asked)
    texts, tokens = [""] * 4, [[] for _ in range(4)]
    finished, usage = {}, None
    for chunk in client.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            tokens[choice.index] += choice.logprobs.tokens
            finished[choice.index] = choice.finish_reason or finished.get(choice.index)
    assert texts == [c.text for c in whole.choices] and usage == whole.usage
    assert tokens == [c.logprobs.tokens for c in whole.choices]
    assert [finished[i] for i in range(4)] == [c.finish_reason for c in whole.choices]


def test_without_a_seed_texts_differ(client: OpenAI) -> None:
    asked = {"model": "writer", "prompt": "A", "max_tokens": 20, "n": 4}
    texts = {c.text for _ in range(2) for c in client.completions.create(**asked).choices}
    assert len(texts) > 4


def test_token_ids(client: OpenAI) -> None:
    asked = {"model": "writer", "max_tokens": 12, "temperature": 0}
    by_text = client.completions.create(prompt="ab", **asked)
    by_ids = client.completions.create(prompt=[256, 97, 98], **asked)
    assert by_ids.choices[0].text == by_text.choices[0].text
    several = client.completions.create(prompt=[[256, 97, 98], [97]], **asked)
    assert several.choices[0].text == by_text.choices[0].text and several.usage.prompt_tokens == 4
    with pytest.raises(BadRequestError) as caught:
        client.completions.create(prompt=[[97], [257]], **asked)
    assert caught.value.param == "prompt.1"


def test_stop_strings(client: OpenAI) -> None:
    text = client.completions.create(model="writer", prompt="A", max_tokens=60, temperature=0).choices[0].text
    stop = next(t for t in (text[i : i + 2] for i in range(3, 40)) if t.isascii() and text.index(t) > 0)
    cut = client.completions.create(model="writer", prompt="A", max_tokens=60, temperature=0, stop=[stop, "never there"])
    assert cut.choices[0].text == text[: text.index(stop)] and cut.choices[0].finish_reason == "stop"


def test_logprobs_are_the_models(client: OpenAI, folder: Path) -> None:
    import torch

    loaded = genus.load(folder / "writer")
    got = client.completions.create(model="writer", prompt="Hello", max_tokens=6, temperature=0, logprobs=3, echo=True)
    told = got.choices[0].logprobs
    assert got.choices[0].text.startswith("Hello") and told.tokens[:5] == list("Hello")
    generated = client.completions.create(model="writer", prompt="Hello", max_tokens=6, temperature=0, logprobs=3)
    ids = [256, *b"Hello"]
    with torch.inference_mode():
        log_p = loaded.model(torch.tensor([ids]))[0, :, :257].log_softmax(-1)
    want = [log_p[i, ids[i + 1]].item() for i in range(5)]
    assert told.token_logprobs[:5] == pytest.approx(want, abs=1e-4)
    assert max(told.top_logprobs[0].values()) == pytest.approx(log_p[0].max().item(), abs=1e-4)
    assert told.token_logprobs[5:] == pytest.approx(generated.choices[0].logprobs.token_logprobs, abs=1e-4)
    assert told.text_offset[:6] == [0, 1, 2, 3, 4, 5]
    for top, own in zip(generated.choices[0].logprobs.top_logprobs, generated.choices[0].logprobs.token_logprobs):
        assert len(top) == 3 and max(top.values()) == pytest.approx(own, abs=1e-5)  # greedy


def test_scoring_without_writing(client: OpenAI) -> None:
    """What evaluation harnesses ask for."""
    got = client.completions.create(model="memory", prompt="Hello", max_tokens=0, logprobs=1, echo=True)
    assert got.choices[0].text == "Hello" and len(got.choices[0].logprobs.tokens) == 5
    assert all(p is not None and p <= 0 for p in got.choices[0].logprobs.token_logprobs)


def test_best_of(client: OpenAI) -> None:
    asked = {"model": "writer", "prompt": "A", "max_tokens": 8, "seed": 1, "logprobs": 0}

    def mean(choice: object) -> float:
        return math.fsum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    every = client.completions.create(**asked, n=5).choices
    best = client.completions.create(**asked, n=2, best_of=5).choices
    assert [c.text for c in best] == [c.text for c in sorted(every, key=mean, reverse=True)[:2]]


def test_json(client: OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"enum": ["x", "y"]}}, "required": ["a", "b"]}
    schema["additionalProperties"] = False
    form = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    got = client.completions.create(model="writer", prompt="A", max_tokens=60, n=3, extra_body={"response_format": form})
    for choice in got.choices:
        value = json.loads(choice.text)
        assert isinstance(value["a"], bool) and value["b"] in ("x", "y") and choice.finish_reason == "stop"
    form = {"type": "regex", "pattern": "[a-c]{3}-[0-9]"}
    got = client.completions.create(model="writer", prompt="A", max_tokens=20, extra_body={"response_format": form})
    assert got.choices[0].text[3] == "-" and len(got.choices[0].text) == 5


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"prompt": "a" * 300}, "prompt", "context_length_exceeded"),
        ({"prompt": ["a", "b" * 300]}, "prompt", "context_length_exceeded"),
        ({"max_tokens": 5000}, "max_tokens", "too_many_tokens"),
        ({"n": 17}, "n", "too_many_texts"),
        ({"prompt": ["a"] * 17}, "prompt", "too_many_texts"),
        ({"logit_bias": {"5000": 1}}, "logit_bias", None),
        ({"extra_body": {"response_format": {"type": "regex", "pattern": "("}}}, "response_format", None),
        (
            {"extra_body": {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": 3}}}}},
            "response_format",
            None,
        ),
        ({"model": "reader"}, "model", "model_not_able"),
        ({"model": "rewriter", "echo": True}, "echo", None),
    ],
)
def test_what_is_refused(client: OpenAI, asked: dict, param: str, code: str | None) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.completions.create(**({"model": "writer", "prompt": "a"} | asked))
    assert (caught.value.param, caught.value.code) == (param, code)
    assert len(caught.value.message) > 20


def test_an_unknown_model(client: OpenAI) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.completions.create(model="write", prompt="a")
    assert caught.value.code == "model_not_found" and caught.value.param == "model" and "'writer'" in caught.value.message


def test_what_there_is(client: OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert set(models) == {"writer", "talker", "rewriter", "reader", "memory"}
    assert client.models.retrieve("talker").id == "talker"
    assert models["talker"].model_extra["abilities"] == ["chat", "complete", "embed"]
    assert models["writer"].model_extra["parameters"] > 10_000
