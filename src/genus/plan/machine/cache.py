"""What was measured before: calibrations in the user's cache folder, under all that they depend on."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from genus import __version__
from genus.ops.cache import cache_folder
from genus.plan.branches import Branch
from genus.plan.machine.measured import FORMAT, Calibration, Setting
from genus.prepare.dataset import Dataset
from genus.recipes import find, make
from genus.run import write_atomic
from genus.spec import to_json

ENOUGH = 20.0  # seconds of measurement that serve any plan
STALE = 600.0  # seconds after which a measurement on a busy machine is made again


def cached(one: Branch, data: Dataset, seconds: float, setting: Setting) -> Calibration | None:
    """An earlier calibration under the same conditions that was not hurried (half of `seconds`), nor disturbed and old."""
    file = cache_file(one, data, setting)
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        found = Calibration.from_json(value)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    disturbed = found.warnings and time.time() - file.stat().st_mtime > STALE
    return None if disturbed or 2 * found.seconds < min(seconds, ENOUGH) else replace(found, name=one.name)


def cache_file(one: Branch, data: Dataset, setting: Setting) -> Path:
    """The file of a calibration: a hash of all that it depends on."""
    import torch

    system = find(one.recipe)
    content = {
        "format": FORMAT,
        "versions": {"genus": __version__, "torch": torch.__version__},
        "machine": machine(),
        "setting": [setting.threads, setting.processes, setting.context, setting.batch, precision(setting.dtype)],
        "recipe": to_json(make(system.name, vocab=data.vocab_size)),
        "data": data.fingerprint if one.kind == "counted" else data.vocab_size,
    }
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / "calibration" / f"{one.recipe}-{key}.json"


def keep(file: Path, result: Calibration, say: Callable[[str], None]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(result.to_json(), indent=1) + "\n")
    except OSError as error:
        say(f"the calibration could not be kept in {file.parent} ({error.strerror}); the next plan measures again")


def machine() -> dict[str, Any]:
    from genus.train.machine import describe

    return describe()


def precision(name: str) -> str:
    """ "bf16" or "fp32": what `name` means here."""
    import torch

    from genus.train.machine import compute_dtype, default_device

    return "bf16" if compute_dtype(name, default_device()) == torch.bfloat16 else "fp32"
