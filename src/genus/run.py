"""Run: the directory that every verb reads and writes.

    runs/NAME/
      run.json             the whole specification; enough to run it again
      prediction.json      what a plan expected of it, written before it began
      metrics.jsonl        one line per logged step
      checkpoints/step-N/  exact-resume state
      model/               Hugging Face layout
      report.html

Files are replaced atomically. Nothing is unpickled from disk: safetensors and JSON only.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genus.export.labels import Labels
    from genus.modalities.text import Tokenizer
    from genus.spec import Spec

CONFIG = "run.json"
METRICS = "metrics.jsonl"
PREDICTION = "prediction.json"


class Run:
    """A run directory. `Run.create` makes one, `Run.open` opens it."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.config = config

    @classmethod
    def create(cls, path: str | Path, config: dict[str, Any], prediction: dict[str, Any] | None = None) -> Run:
        """Make the directory and write `run.json`, after `prediction.json` where a plan has one.

        Raises:
            FileExistsError: the directory already holds a run.
        """
        path = Path(path)
        must_be_free(path)
        path.mkdir(parents=True, exist_ok=True)
        if prediction is not None:
            write_atomic(path / PREDICTION, json.dumps(prediction, indent=1, ensure_ascii=False) + "\n")
        run = cls(path, config)
        run.save()
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open an existing run.

        Raises:
            FileNotFoundError: there is no `run.json`.
        """
        path = Path(path)
        if not (path / CONFIG).is_file():
            raise FileNotFoundError(f"{path} is not a run: it has no {CONFIG}")
        return cls(path, json.loads((path / CONFIG).read_text(encoding="utf-8")))

    @property
    def model_dir(self) -> Path:
        """The model in Hugging Face layout."""
        return self.path / "model"

    @property
    def checkpoints_dir(self) -> Path:
        return self.path / "checkpoints"

    def save(self) -> None:
        """Write `run.json` again, after a change of `config`."""
        write_atomic(
            self.path / CONFIG,
            json.dumps(self.config, indent=1, ensure_ascii=False) + "\n",
        )

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to `metrics.jsonl`."""
        with open(self.path / METRICS, "a", encoding="utf-8") as f:
            f.write(json.dumps(record, ensure_ascii=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All complete lines of `metrics.jsonl`; a line cut short by a kill is left out."""
        path = self.path / METRICS
        if not path.exists():
            return []
        records = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return records

    def forget_metrics_after(self, step: int) -> None:
        """Drop lines of later steps, so that a resumed run does not show them twice."""
        kept = [r for r in self.metrics() if r.get("step", 0) <= step]
        write_atomic(
            self.path / METRICS,
            "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in kept),
        )


def must_be_free(path: str | Path) -> None:
    """Check that a run may be made at `path`.

    Raises:
        FileExistsError: something is there.
    """
    path = Path(path)
    if (path / CONFIG).exists():
        raise FileExistsError(f"{path} already holds a run; continue it with --resume {path}, or choose another -o")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists and is not a run; choose another -o")


@dataclass(frozen=True)
class Loaded:
    """A model ready for use.

    Attributes:
        model: a module with `forward`, `score` and `init_state`. spec: its specification.
        tokenizer: None when the folder has none.
        path: where it came from. config: `run.json` of a run, else an empty dict.
        labels: what the outputs of a task's head are called, and what they are for.
    """

    model: Any
    spec: Spec
    tokenizer: Tokenizer | None
    path: Path
    config: dict[str, Any]
    labels: Labels | None = None


def model_folder(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Where the model of a run, or of a model folder, lies; and the `run.json` of a run, of a folder an empty dict.

    Raises:
        FileNotFoundError: the run has no finished model yet, or the path holds neither.
    """
    path = Path(path)
    config: dict[str, Any] = {}
    folder = path
    if (path / CONFIG).is_file():
        run = Run.open(path)
        config, folder = run.config, run.model_dir
        if not (folder / "config.json").is_file():
            verb = "tune" if "task" in config else "train"
            raise FileNotFoundError(f"{path} has no finished model yet; continue it with: genus {verb} --resume {path}")
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{path} is neither a run nor a model folder: it has no {CONFIG} and no config.json")
    return folder, config


def load(path: str | Path) -> Loaded:
    """A model from a run, from a folder in Hugging Face layout, or from an n-gram folder.

    Raises:
        FileNotFoundError: the path holds neither.
    """
    folder, config = model_folder(path)
    from genus.export import huggingface

    model, spec, tokenizer = huggingface.load(folder)
    return Loaded(model, spec, tokenizer, Path(path), config, huggingface.labels_of(folder))


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` so that a reader, or a kill, sees either the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode("utf-8") if isinstance(content, str) else content
    with open(temporary, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def replace_folder(temporary: Path, final: Path) -> None:
    """Put a complete folder in its place, removing an older one; a kill in between leaves one of the two."""
    for file in temporary.rglob("*"):
        if file.is_file():
            with open(file, "rb") as f:
                os.fsync(f.fileno())
    old = final.with_name(f".{final.name}.old")
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.rename(temporary, final)
    _sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
