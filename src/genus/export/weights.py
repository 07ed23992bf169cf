"""Weights on disk: `model.safetensors`, or shards with an index. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
READABLE = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Weights:
    """The tensors of a folder, read one at a time. Use as a context manager.

    Raises:
        FileNotFoundError: the folder holds no weights, or a shard is missing.
        ValueError: the folder holds pickled weights only, or a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = _locate(folder)
        self._open: dict[str, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Weights:
        from safetensors import SafetensorError, safe_open

        for file in sorted(set(self._files.values())):
            try:
                self._open[file] = self._stack.enter_context(safe_open(self.folder / file, "pt"))
            except SafetensorError as error:
                raise ValueError(f"{self.folder / file} is damaged ({error}); copy it again") from error
        if self._files == {"": SINGLE}:
            self._files = dict.fromkeys(self._open[SINGLE].keys(), SINGLE)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        self._open.clear()

    @property
    def names(self) -> list[str]:
        """Names of all tensors."""
        return list(self._files)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def tensor(self, name: str) -> Tensor:
        """The tensor in the precision of the file."""
        try:
            return self._open[self._files[name]].get_tensor(name)  # type: ignore[no-any-return]
        except Exception as error:  # the Rust side's own class, raised when an index names a tensor its shard lacks
            raise ValueError(f"{self.folder / self._files[name]} does not hold {name}: {error}") from error

    @property
    def dtype(self) -> str:
        """Name in DTYPES of the precision of all tensors; fp32 when they differ."""
        kinds = {self._open[file].get_slice(name).get_dtype() for name, file in self._files.items()}
        return {"BF16": "bf16", "F16": "fp16"}.get(kinds.pop(), "fp32") if len(kinds) == 1 else "fp32"


def _locate(folder: Path) -> dict[str, str]:
    """Tensor name -> file; {"": file} for a single file, whose names are read when it is opened."""
    if (folder / INDEX).is_file():
        files: dict[str, str] = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        for file in sorted(set(files.values())):
            if not (folder / file).is_file():
                raise FileNotFoundError(f"{folder} lacks {file}, which {INDEX} names; copy the missing file")
        return files
    if (folder / SINGLE).is_file():
        return {"": SINGLE}
    pickled = sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth"), *folder.glob("*.ckpt")])
    if pickled:
        raise ValueError(
            f"{folder} holds pickled weights only ({pickled[0].name}), which can run code when they are opened; "
            "convert them where you trust them: transformers' AutoModel.from_pretrained(folder).save_pretrained(folder)"
        )
    raise FileNotFoundError(f"{folder} holds no {SINGLE}")


def write_weights(folder: Path, tensors: Mapping[str, Tensor], shard_bytes: int = SHARD_BYTES) -> list[str]:
    """Write one file, or shards of at most `shard_bytes` with an index. Returns the names of the files.

    Each file is replaced atomically; weights of an earlier save that are not part of this one are removed at the end.
    """
    from safetensors.torch import save_file

    shards = _shards(tensors, shard_bytes)
    files = [SINGLE] if len(shards) == 1 else [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    for file, names in zip(files, shards, strict=True):
        temporary = folder / f".{file}.partial"
        temporary.touch()
        mode = temporary.stat().st_mode  # save_file leaves files that their owner alone may read
        save_file({n: tensors[n].contiguous() for n in names}, temporary, metadata={"format": "pt"})
        temporary.chmod(mode)
        _replace(temporary, folder / file)
    if len(shards) > 1:
        total = sum(t.numel() * t.element_size() for t in tensors.values())
        index = {
            "metadata": {"total_size": total},
            "weight_map": {n: file for file, names in zip(files, shards, strict=True) for n in names},
        }
        temporary = folder / f".{INDEX}.partial"
        temporary.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        _replace(temporary, folder / INDEX)
        files.append(INDEX)
    for old in [*folder.glob("model*.safetensors"), folder / INDEX]:
        if old.name not in files:
            old.unlink(missing_ok=True)
    return files


def _shards(tensors: Mapping[str, Tensor], limit: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name, t in tensors.items():
        bytes_ = t.numel() * t.element_size()
        if shards[-1] and size + bytes_ > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += bytes_
    return shards


def _replace(temporary: Path, final: Path) -> None:
    with open(temporary, "rb") as f:
        os.fsync(f.fileno())
    os.replace(temporary, final)
