"""Models are loaded when they are asked for and unloaded when they are not."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from genus.serve.errors import Refused
from genus.serve.models import Registry
from genus.serve.settings import Settings
from genus.serve.watch import found

from .conftest import running


def registry(*models: str | Path, **options: object) -> Registry:
    return Registry(Settings(tuple(map(str, models)), **options))


def test_names_and_folders(folder: Path, tmp_path: Path) -> None:
    assert found([str(folder / "writer")]) == [("writer", folder / "writer")]
    assert found([f"mine={folder / 'writer'}"]) == [("mine", folder / "writer")]
    assert [name for name, _ in found([str(folder)])] == ["memory", "reader", "rewriter", "talker", "writer"]
    with pytest.raises(FileNotFoundError, match="neither a run nor"):
        found([str(tmp_path)])
    with pytest.raises(ValueError, match="two models are called 'writer'"):
        registry(folder, folder / "writer")
    with pytest.raises(ValueError, match="more than --memory"):
        registry(folder, memory=1000.0)


def test_what_cannot_be_served_is_said_at_once(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "writer", tmp_path / "mute")
    (tmp_path / "mute" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="add the tokenizer"):
        registry(tmp_path / "mute")
    shutil.copytree(folder / "writer", tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled weights"):
        registry(tmp_path / "pickled")


def test_on_demand_and_no_longer_than_needed(folder: Path) -> None:
    both = registry(folder / "writer", folder / "talker", idle=1000.0)
    assert not both.loaded

    async def scene() -> None:
        async with both.use("writer") as served, both.use("writer") as same:
            assert served is same and list(both.loaded) == ["writer"]
        await both.tidy()
        assert list(both.loaded) == ["writer"]
        object.__setattr__(both.settings, "idle", 0.0)
        async with both.use("talker"):
            await both.tidy()
            assert list(both.loaded) == ["talker"]  # which is in use
        thread = both.loaded["talker"].worker._thread
        await both.close()
        assert not both.loaded and not thread.is_alive()

    asyncio.run(scene())


def test_many_who_ask_at_once_load_it_once(folder: Path) -> None:
    one = registry(folder / "writer")

    async def ask() -> object:
        async with one.use("writer") as served:
            await asyncio.sleep(0.01)
            return served

    async def scene() -> None:
        assert len({id(served) for served in await asyncio.gather(*(ask() for _ in range(8)))}) == 1
        await one.close()

    asyncio.run(scene())


def test_a_memory_budget(folder: Path) -> None:
    sizes = {name: entry.bytes for name, entry in registry(folder).entries.items()}
    names = ("writer", "talker", "memory")
    three = registry(*(folder / name for name in names), memory=float(sizes["writer"] + sizes["talker"]))

    async def scene() -> None:
        async with three.use("writer"):
            pass
        async with three.use("talker"):
            assert list(three.loaded) == ["writer", "talker"]
            async with three.use("memory"):  # the one unused for longest goes
                assert list(three.loaded) == ["talker", "memory"]
                with pytest.raises(Refused) as caught:
                    async with three.use("writer"):
                        pass
                assert caught.value.status == 429
        await three.close()

    asyncio.run(scene())


def test_a_model_that_cannot_be_read_is_an_error_of_that_model_alone(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "writer", tmp_path / "broken")
    with running(Settings((str(folder / "writer"), str(tmp_path / "broken")), port=0)) as site:
        weights = tmp_path / "broken" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        for _ in range(2):
            refused = site.post("/v1/completions", {"model": "broken", "prompt": "a"})
            assert (
                refused.status == 500 and refused.error["code"] == "model_failed" and str(tmp_path) not in refused.body.decode()
            )
        assert site.post("/v1/completions", {"model": "writer", "prompt": "a"}).status == 200
        assert [m["loaded"] for m in site.get("/v1/models").json["data"]] == [True, False]


def test_idle_models_go_by_themselves(folder: Path) -> None:
    with running(Settings((str(folder / "writer"),), port=0, idle=0.2)) as site:
        asked = {"model": "writer", "prompt": "a", "max_tokens": 5, "temperature": 0}
        first = site.post("/v1/completions", asked).json["choices"]
        site.until("genus_weights_bytes", lambda n: n == 0)
        assert site.post("/v1/completions", asked).json["choices"] == first
        assert json.loads(site.get("/health").body) == {"status": "ok"}
