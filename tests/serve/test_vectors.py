"""/v1/embeddings, through OpenAI's own client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from openai import BadRequestError, OpenAI

import genus
from genus.export import huggingface
from genus.parts.task_head import Vectors
from genus.serve.settings import Settings
from genus.tune.features import features

from .conftest import Site, running, save


@pytest.fixture(scope="module")
def client(site: Site) -> OpenAI:
    return OpenAI(base_url=f"{site.url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("name", ["reader", "writer", "memory", "rewriter"])
def test_vectors_are_the_models(client: OpenAI, folder: Path, name: str) -> None:
    texts = [f"text number {i} " * (i + 1) for i in range(9)] * 2
    want = features(genus.load(folder / name), None, texts)
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    got = client.embeddings.create(model=name, input=texts)  # the client asks for base64
    assert np.allclose([each.embedding for each in got.data], want, atol=1e-5)
    assert [each.index for each in got.data] == list(range(18)) and got.usage.prompt_tokens > 18
    plain = client.embeddings.create(model=name, input=texts[0], encoding_format="float", dimensions=32)
    assert np.allclose(plain.data[0].embedding, want[0], atol=1e-5)


def test_pools_and_ids(client: OpenAI, folder: Path) -> None:
    first = client.embeddings.create(model="reader", input="abc", extra_body={"pool": "first"}).data[0].embedding
    want = features(genus.load(folder / "reader"), None, ["abc"], "first")[0]
    assert np.allclose(first, want / np.linalg.norm(want), atol=1e-5)
    ids = client.embeddings.create(model="reader", input=[list(b"abc")], extra_body={"pool": "first"}).data[0].embedding
    assert np.allclose(ids, first, atol=1e-6)


def test_a_sentence_encoder_pools_as_it_states(tmp_path: Path) -> None:
    """From a folder of sentence-transformers."""
    reader = genus.load(save(tmp_path, "reader"))
    spec = reader.spec.replace(head=Vectors(take="max"))
    encoder = spec.build()
    encoder.load_state_dict(reader.model.state_dict(), strict=False)
    huggingface.save(tmp_path / "stated", encoder, spec, reader.tokenizer)
    assert (tmp_path / "stated" / "modules.json").is_file()
    with running(Settings((str(tmp_path / "stated"),), port=0)) as site:
        found = site.post("/v1/embeddings", {"model": "stated", "input": "abc"}).json["data"][0]["embedding"]
    want = features(reader, None, ["abc"], "max")[0]
    assert np.allclose(found, want / np.linalg.norm(want), atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [[]]}, "input.0"),
        ({"input": ["a", "b" * 300]}, "input.1"),
        ({"input": "b" * 300}, "input"),
        ({"input": ["a"] * 257}, "input"),
        ({"input": [[5000]]}, "input.0"),
        ({"dimensions": 7}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_what_is_refused(client: OpenAI, asked: dict, param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        client.embeddings.create(**({"model": "reader", "input": "a"} | asked))
    assert caught.value.param == param
