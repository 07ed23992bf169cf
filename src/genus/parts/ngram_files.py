"""The folder of an n-gram: `config.json`, and a table per file that is mapped, not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from genus.parts.ngram import NGram
from genus.spec import from_json, to_json

MODEL_TYPE = "genus_ngram"


def save_ngram(folder: str | Path, model: NGram.Module) -> None:
    """Write the tables as .npy files and, last, `config.json`. Readers of the old files are not disturbed."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in model.spec.shapes():
        with open(folder / f".{name}.partial", "wb") as file:
            np.save(file, getattr(model, name).cpu().numpy())
        (folder / f".{name}.partial").replace(folder / f"{name}.npy")
    write_config(folder, model.spec)


def write_config(folder: Path, spec: NGram) -> None:
    """`config.json` of a model folder."""
    text = json.dumps({"model_type": MODEL_TYPE, "spec": to_json(spec)}, indent=2)
    (folder / ".config.partial").write_text(text + "\n", encoding="utf-8")
    (folder / ".config.partial").replace(folder / "config.json")


def load_ngram(folder: str | Path) -> NGram.Module:
    """The model in `folder`, memory-mapped.

    Raises:
        ValueError: the folder holds something else, or a table is missing, cut short or of another shape.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json, so it is not a model folder")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != MODEL_TYPE:
        raise ValueError(f"{folder} holds a model of type {config.get('model_type')!r}, not {MODEL_TYPE!r}")
    spec = from_json(config["spec"])
    return NGram.Module(
        spec,
        {name: _map(folder / f"{name}.npy", *shape) for name, shape in spec.shapes().items()},
    )


def _map(path: Path, dtype: Any, size: int) -> np.ndarray:
    try:
        # copy-on-write: torch wants a writable array, the file stays as it is; an empty file cannot be mapped
        table = np.load(path, mmap_mode="c" if size else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is missing or cut short ({error}); copy the model folder again or rebuild it") from error
    if table.shape != (size,) or table.dtype != dtype:
        raise ValueError(f"{path} holds {table.shape} {table.dtype}, config.json says ({size},) {np.dtype(dtype)}; rebuild it")
    return np.asarray(table)
