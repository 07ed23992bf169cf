"""Exact-resume checkpoints: weights, optimiser, carried state and counters, in safetensors and JSON, put in place atomically.

Frozen weights are not written: they come from where they came from at first. A checksum of them is, so that others are noticed.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genus.run import replace_folder
from genus.train.optimizer import Optimizers

KEEP = 2  # complete checkpoints left on disk


def save(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizers: Optimizers,
    carried: dict[str, Any] | None,
    counters: dict[str, Any],
) -> Path:
    """Write `folder/step-N`, then remove all but the newest two.

    Args:
        carried: recurrent state handed from batch to batch. counters: JSON values that the loop needs to go on.
    """
    final = folder / f"step-{step}"
    temporary = folder / f".step-{step}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_weights(temporary / "model.safetensors", model)
    save_file(_contiguous(_optimizer_tensors(optimizers)), temporary / "optimizer.safetensors")
    if carried is not None:
        save_file({k: v.detach().clone() for k, v in _flatten(carried)}, temporary / "carried.safetensors")
    for file in temporary.iterdir():
        file.chmod(0o644)
    text = json.dumps({"step": step, "carried": _shape(carried), **counters}, indent=1)
    (temporary / "state.json").write_text(text, encoding="utf-8")
    replace_folder(temporary, final)
    for old in complete(folder)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def complete(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [p for p in folder.glob("step-*") if (p / "state.json").is_file()] if folder.is_dir() else []
    return sorted(found, key=lambda p: int(p.name.split("-")[1]))


def restore(path: Path, model: nn.Module, optimizers: Optimizers) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Load a checkpoint in place; returns the carried state and the counters.

    Raises:
        ValueError: the checkpoint belongs to another model.
    """
    restore_weights(path / "model.safetensors", model)
    saved = load_file(path / "optimizer.safetensors")
    for number, optimizer in enumerate(optimizers):
        for index, p in _parameters(optimizer):
            prefix = f"{number}.{index}."
            optimizer.state[p] = {k[len(prefix) :]: v.to(p.device) for k, v in saved.items() if k.startswith(prefix)}
    counters = json.loads((path / "state.json").read_text(encoding="utf-8"))
    shape = counters.pop("carried")
    if shape is None:
        return None, counters
    device = next(model.parameters()).device
    carried = {name: value.to(device) for name, value in load_file(path / "carried.safetensors").items()}
    return _unflatten(shape, carried), counters


def save_weights(path: Path, model: nn.Module) -> None:
    """Write the weights that are trained, in full precision, replacing an older file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    save_file(_contiguous(dict(own_tensors(model))), temporary, metadata=_frozen(model) or None)
    temporary.replace(path)


def restore_weights(path: Path, model: nn.Module) -> None:
    """Load weights in place.

    Raises:
        ValueError: they belong to another model, or to one whose frozen weights were others.
    """
    tensors, own = load_file(path), dict(own_tensors(model))
    if tensors.keys() != own.keys():
        odd = sorted(tensors.keys() ^ own.keys())
        raise ValueError(f"{path} belongs to another model: {len(odd)} tensors differ, such as {odd[0]}")
    with safe_open(path, "pt") as file:
        frozen = file.metadata()
    if (frozen or {}) != _frozen(model):
        raise ValueError(f"the frozen weights are not those that {path} was trained on; put the base model back as it was")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def own_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter that is trained and every saved buffer once (a tied weight under its first name)."""
    yield from ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    saved = model.state_dict(keep_vars=True)
    for name, buffer in model.named_buffers():
        if name in saved:
            yield name, buffer


def _frozen(model: nn.Module) -> dict[str, str]:
    """A checksum of the weights that are not trained; empty where all are."""
    total = None
    for name, p in model.named_parameters():
        if not p.requires_grad:
            total = zlib.crc32(p.detach().cpu().reshape(-1).view(torch.uint8).numpy().data, zlib.crc32(name.encode(), total or 0))
    return {} if total is None else {"frozen": f"{total:08x}"}


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, Tensor]]:
    return enumerate(p for group in optimizer.param_groups for p in group["params"])


def _optimizer_tensors(optimizers: Optimizers) -> dict[str, Tensor]:
    tensors = {}
    for number, optimizer in enumerate(optimizers):
        for index, p in _parameters(optimizer):
            for key, value in optimizer.state.get(p, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{number}.{index}.{key}"] = value
    return tensors or {"empty": torch.zeros(1)}


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().contiguous() for k, v in tensors.items()}


def _flatten(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, dict | list):
        for key, v in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flatten(v, f"{path}/{key}")


def _shape(value: Any, path: str = "") -> Any:
    """The same nesting with every tensor replaced by its path, as JSON."""
    if isinstance(value, Tensor):
        return {"tensor": path}
    if isinstance(value, dict):
        return {"dict": {k: _shape(v, f"{path}/{k}") for k, v in value.items()}}
    if isinstance(value, list):
        return [_shape(v, f"{path}/{i}") for i, v in enumerate(value)]
    return value


def _unflatten(shape: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(shape, dict):
        if "tensor" in shape:
            return tensors[shape["tensor"]]
        return {k: _unflatten(v, tensors) for k, v in shape["dict"].items()}
    return [_unflatten(v, tensors) for v in shape] if isinstance(shape, list) else shape
