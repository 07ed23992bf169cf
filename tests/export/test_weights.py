"""Weights on disk: one file, shards, and everything that can be wrong with them."""

import json
import os
from pathlib import Path

import pytest
import torch

from genus.export.weights import INDEX, SINGLE, Weights, write_weights


def tensors(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {f"t{i}": torch.randn(4, 25).to(dtype) for i in range(5)}


def read(folder: Path) -> dict[str, torch.Tensor]:
    with Weights(folder) as weights:
        return {n: weights.tensor(n) for n in weights.names}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_file(tmp_path: Path, dtype: torch.dtype) -> None:
    t = tensors(dtype)
    assert write_weights(tmp_path, t) == [SINGLE]
    assert same(read(tmp_path), t)
    with Weights(tmp_path) as weights:
        assert weights.dtype == {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


def test_shards_and_back_to_one_file(tmp_path: Path) -> None:
    t = tensors()
    files = write_weights(tmp_path, t, shard_bytes=1000)  # each tensor takes 400 bytes
    assert [f for f in files if f != INDEX] == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert json.loads((tmp_path / INDEX).read_text())["metadata"]["total_size"] == 2000
    assert same(read(tmp_path), t)
    write_weights(tmp_path, t)
    assert sorted(p.name for p in tmp_path.iterdir()) == [SINGLE]


def test_others_may_read_the_file_as_usual(tmp_path: Path) -> None:
    write_weights(tmp_path, tensors())
    (tmp_path / "plain").touch()
    assert os.stat(tmp_path / SINGLE).st_mode == os.stat(tmp_path / "plain").st_mode


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_weights(tmp_path, tensors(), shard_bytes=1000)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00003"):
        Weights(tmp_path)


def test_an_index_that_lies_is_an_error(tmp_path: Path) -> None:
    write_weights(tmp_path, tensors(), shard_bytes=1000)
    index = json.loads((tmp_path / INDEX).read_text())
    index["weight_map"]["ghost"] = "model-00001-of-00003.safetensors"
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(ValueError, match="ghost"):
        read(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 200])
def test_a_file_cut_short_is_an_error(tmp_path: Path, kept: int) -> None:
    write_weights(tmp_path, tensors())
    whole = (tmp_path / SINGLE).read_bytes()
    (tmp_path / SINGLE).write_bytes(whole[:kept])
    with pytest.raises(ValueError, match="damaged"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_nothing_is_unpickled(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"whatever is in here must not be opened")
    with pytest.raises(ValueError, match="pickled weights only") as error:
        Weights(tmp_path)
    assert "save_pretrained" in str(error.value)


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no model\.safetensors"):
        Weights(tmp_path)
