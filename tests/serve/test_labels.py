"""/v1/classify says what `genus predict` says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import genus
from genus.serve.settings import Settings
from genus.tune.labeller import Labeller

from .conftest import Site, running


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    rng = random.Random(0)
    words = ("the", "film", "is", "a", "story", "so")
    rows = [(("good", "bad")[i % 2], " ".join([*rng.choices(words, k=5), ("great", "dull")[i % 2]])) for i in range(40)]
    (folder / "rows.csv").write_text("label,text\n" + "\n".join(",".join(row) for row in rows) + "\n", encoding="utf-8")
    sizes = ("dim=32", "depth=1", "heads=2", "context=32")
    return genus.tune("bert", folder / "rows.csv", folder / "run", *sizes, epochs=1, seeds=1, say=lambda _: None).path


@pytest.fixture(scope="module")
def labelling(tuned: Path) -> Iterator[Site]:
    with running(Settings((f"sentiment={tuned}",), port=0)) as site:
        yield site


def test_labels(labelling: Site, tuned: Path) -> None:
    texts = [f"a {word} film" for word in ("great", "dull") * 10]
    want = Labeller.load(tuned)([{"text": text} for text in texts])
    got = labelling.post("/v1/classify", {"model": "sentiment", "input": texts}).json
    assert got["task"] == "classification" and [each["index"] for each in got["data"]] == list(range(20))
    for each, row in zip(got["data"], want):
        assert each["prediction"] == row["prediction"] and each["probability"] == pytest.approx(row["probability"], abs=1e-4)
    one = labelling.post("/v1/classify", {"model": "sentiment", "input": {"text": texts[0], "more": 1}}).json["data"]
    assert one[0]["prediction"] == want[0]["prediction"]
    assert labelling.get("/v1/models").json["data"][0]["abilities"] == ["classify", "embed"]


def test_what_is_refused(labelling: Site, site: Site) -> None:
    for given, param in (({"texts": "a"}, "input"), (["a", " "], "input.1"), ([], "input"), (["a"] * 257, "input")):
        refused = labelling.post("/v1/classify", {"model": "sentiment", "input": given})
        assert refused.status == 400 and refused.error["param"] == param
    assert site.post("/v1/classify", {"model": "writer", "input": "a"}).error["code"] == "model_not_able"
