"""A server follows the disk: runs that train, newer checkpoints, finished models."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
import torch

import genus
from genus.export import huggingface
from genus.prepare.dataset import Dataset
from genus.run import Run
from genus.serve.errors import Refused
from genus.serve.models import Registry
from genus.serve.server import greeting
from genus.serve.settings import Settings
from genus.spec import to_json
from genus.train import checkpoint

from .conftest import running

TEXT = "in the beginning was the word and the word was with everybody\n" * 40


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    genus.prepare([folder / "text.txt"], folder / "data", tokenizer="bytes", workers=1)
    return Dataset.open(folder / "data")


class Training:
    """A run as `genus train` writes it, without the training: every checkpoint has other weights."""

    def __init__(self, path: Path, data: Dataset, fingerprint: str | None = None) -> None:
        made = genus.recipe("gpt2", dim=32, depth=1, heads=2, vocab=data.vocab_size, context=64)
        self.data, self.recipe, self.model = data, made, made.model.build(0)
        where = {"path": str(data.root), "fingerprint": fingerprint or data.fingerprint}
        self.run = Run.create(path, {"recipe": to_json(made), "data": where, "base": None, "options": {}})

    def reach(self, step: int) -> None:
        """Write a checkpoint."""
        torch.manual_seed(step)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.normal_(std=0.5)
        checkpoint.save(self.run.checkpoints_dir, step, self.model, [], None, {})

    def finish(self) -> None:
        huggingface.save(self.run.model_dir, self.model, self.recipe, self.data.tokenizer)


def weights(registry: Registry, name: str) -> torch.Tensor:
    return next(registry.loaded[name].loaded.model.parameters())


def test_from_nothing_to_a_finished_model(data: Dataset, tmp_path: Path) -> None:
    young = Training(tmp_path / "young", data)
    registry = Registry(Settings((str(tmp_path),)))
    assert not registry.entries and "no finished model yet" in registry.waiting["young"]
    assert any("cannot answer yet" in line for line in greeting(registry.settings, registry, 1))

    async def answers() -> tuple[int | None, torch.Tensor]:
        await registry.refresh()
        async with registry.use("young") as served:
            await registry.refresh()  # what has not changed is not loaded anew
            assert registry.loaded["young"] is served
            return served.entry.step, next(served.loaded.model.parameters()).clone()

    async def scene() -> None:
        with pytest.raises(Refused) as caught:
            await answers()
        assert caught.value.status == 503 and str(tmp_path) not in caught.value.message
        found = []
        for step in (10, 20, 30):
            young.reach(step)
            found.append(await answers())
            assert torch.equal(found[-1][1], next(young.model.parameters()))
        young.finish()
        last, same = await answers()
        assert [step for step, _ in found] == [10, 20, 30] and last is None and torch.equal(same, found[-1][1])
        assert not registry.waiting
        await registry.tidy()
        assert len(registry._held()) == 1  # those that were replaced are gone
        await registry.close()

    asyncio.run(scene())


def test_who_reads_keeps_the_model_that_was_there(data: Dataset, tmp_path: Path) -> None:
    young = Training(tmp_path / "young", data)
    young.reach(1)
    registry = Registry(Settings((str(tmp_path / "young"),)))
    assert any("after 1 updates" in line for line in greeting(registry.settings, registry, 1))

    async def scene() -> None:
        async with registry.use("young") as old:
            young.reach(2)
            await registry.refresh()
            async with registry.use("young") as new:
                await registry.tidy()
                assert old is not new and old.worker._thread.is_alive() and new.entry.step == 2
        await registry.tidy()
        assert not old.worker._thread.is_alive() and new.worker._thread.is_alive()
        await registry.close()

    asyncio.run(scene())


def test_a_folder_that_is_wrong_or_gone_stops_nobody(data: Dataset, tmp_path: Path) -> None:
    young, lost = Training(tmp_path / "runs/young", data), Training(tmp_path / "runs/lost", data, fingerprint="another")
    young.reach(1)
    lost.reach(1)
    registry = Registry(Settings((str(tmp_path / "runs"),)))
    assert list(registry.entries) == ["young"] and "is not the data this run began with" in registry.waiting["lost"]
    (tmp_path / "runs/odd").mkdir()
    (tmp_path / "runs/odd/config.json").write_text("{}", encoding="utf-8")

    async def scene() -> None:
        await registry.refresh()
        assert list(registry.entries) == ["young"] and "odd" in registry.waiting
        shutil.rmtree(tmp_path / "runs")
        await registry.refresh()
        assert list(registry.entries) == ["young"]

    asyncio.run(scene())


def test_a_server_says_how_far_a_run_is(data: Dataset, tmp_path: Path) -> None:
    young = Training(tmp_path / "young", data)
    with running(Settings((str(tmp_path),), port=0)) as site:
        asked = {"model": "young", "prompt": "in the", "max_tokens": 3}
        refused = site.post("/v1/completions", asked)
        assert refused.status == 503 and refused.error["code"] == "model_not_ready" and "retry-after" in refused.headers
        assert site.get("/v1/models").json["data"] == []
        young.reach(7)
        while not (told := site.get("/v1/models").json["data"]):
            pass
        assert told[0]["step"] == 7 and site.get("/api/models").json["models"][0]["step"] == 7
        assert site.post("/v1/completions", asked).json["usage"]["completion_tokens"] == 3
