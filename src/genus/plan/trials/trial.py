"""Trial: one small training run that a plan measures, and its result on disk.

A trial is a value. What it measured lies in FOLDER/KEY/result.json, where KEY is a hash of the trial's content, so asking for the
same trial again costs nothing, wherever it is asked from. A trial that was killed goes on from its last horizon.

`python -m genus.plan.trials.trial SPEC FOLDER` runs one (SPEC is its JSON) and prints the result as one line of JSON; without
arguments it serves trials, one for each line that comes in.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from genus import __version__
from genus.ops.processor import peak_resident
from genus.run import write_atomic

RESULT = "result.json"
VERSION = 2  # of what is measured: raised with every change of the training code after which old results no longer hold
FINAL = ("done", "diverged")  # what need not be tried again


@dataclass(frozen=True)
class Trial:
    """One recipe of one size on prepared data, measured after several numbers of training tokens.

    Attributes:
        recipe: its name. parameters: size to aim at; None = the shape that `overrides` give, and for counted recipes.
        horizons: training tokens at which it is measured, rising. data: the prepared folder; fingerprint: of its content.
        context, batch: positions per row, rows per update. lr_factor: times the recipe's learning rate.
        threads: of the processor. eval_tokens: validation tokens of one measurement, the first of the split.
        overrides: as of `genus train` (`dim=64`, `training.clip=0.5`). base: a run, or a folder in Hugging Face layout, that is
            trained further; "" = a fresh model of the recipe.
    """

    recipe: str
    parameters: int | None
    horizons: tuple[int, ...]
    data: str
    fingerprint: str
    context: int = 256
    batch: int = 32
    lr_factor: float = 1.0
    seed: int = 0
    dtype: str = "auto"
    threads: int = 1
    eval_tokens: int = 32768
    overrides: tuple[str, ...] = ()
    base: str = ""

    def __post_init__(self) -> None:
        if not self.horizons or any(a >= b for a, b in pairwise((0, *self.horizons))):
            raise ValueError(f"the horizons of a trial are rising numbers of training tokens, not {list(self.horizons)}")
        for name in ("context", "batch", "lr_factor", "threads", "eval_tokens"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")

    @property
    def key(self) -> str:
        """Hash of what decides the result; the place of the data does not."""
        content = {**self.to_json(), "genus": __version__, "version": VERSION}
        del content["data"]
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]

    @property
    def name(self) -> str:
        """For people: recipe, size and what is unusual."""
        size = f" {self.parameters:,}" if self.parameters else ""
        factor = f" lr×{self.lr_factor:g}" if self.lr_factor != 1 else ""
        return f"{self.recipe}{size}{factor}{f' seed {self.seed}' if self.seed else ''}"

    def to_json(self) -> dict[str, Any]:
        content = {**asdict(self), "horizons": list(self.horizons), "overrides": list(self.overrides)}
        if not self.base:
            del content["base"]
        return content

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Trial:
        """Inverse of `to_json`."""
        return cls(**{**value, "horizons": tuple(value["horizons"]), "overrides": tuple(value["overrides"])})


@dataclass(frozen=True)
class Point:
    """What a run that ends at `tokens` reaches, and what it would have cost on its own.

    Attributes:
        loss: validation nats per token. bpb: the same in bits per byte; error: its standard error by the choice of validation
            rows, None with a single batch of them. seconds: of training, without measuring and saving.
        unique_tokens: different training tokens that it saw. flops: training operations (0: counted).
        parameters: in all (a counted model's grow with the data). memory: bytes of the model on disk or of its parameters.
    """

    tokens: int
    loss: float
    bpb: float
    seconds: float
    unique_tokens: int
    flops: float = 0.0
    error: float | None = None
    parameters: int = 0
    memory: int = 0


@dataclass(frozen=True)
class Result:
    """What came of a trial.

    Attributes:
        status: "done", "diverged" (the loss went up or was not a number) or "failed" (it may be tried again).
        reason: in words, unless done. points: of the horizons that were reached.
        parameters: "total", "non_embedding" and "effective" count (`machine.costs`). lr: peak rate. initial: loss in nats per
            token before training. refused: updates. seconds: that the trial took, everything included.
        peak_memory: bytes of the whole process. tokens_per_s: of training.
    """

    trial: Trial
    status: str
    reason: str = ""
    points: tuple[Point, ...] = ()
    parameters: dict[str, int] | None = None
    lr: float | None = None
    initial: float | None = None
    refused: int = 0
    peak_memory: int = 0
    tokens_per_s: float = 0.0
    seconds: float = 0.0
    genus: str = __version__

    @property
    def key(self) -> str:
        return self.trial.key

    @property
    def final(self) -> bool:
        """Whether trying again would give the same."""
        return self.status in FINAL

    def rows(self, definition: str = "total") -> list[dict[str, Any]]:
        """The points as rows of a runs table (`plan.table.Runs.from_rows`), the loss in bits per byte.

        `definition`: which count the column `params` holds; of a counted model there is only the total.
        """
        counts = self.parameters or {}
        return [
            {
                "run": self.key,
                "params": counts.get(definition) or p.parameters,
                "tokens": p.tokens,
                "loss": p.bpb,
                "unique": p.unique_tokens,
                "batch": self.trial.batch * self.trial.context,
                "flops": p.flops,
                "seconds": p.seconds,
            }
            for p in self.points
        ]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "trial": self.trial.to_json(), "points": [asdict(p) for p in self.points], "key": self.key}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Result:
        """Inverse of `to_json`."""
        known = {f.name for f in fields(cls)}
        kept = {k: v for k, v in value.items() if k in known}
        points = tuple(Point(**p) for p in value["points"])
        return cls(**{**kept, "trial": Trial.from_json(value["trial"]), "points": points})

    @classmethod
    def read(cls, trial: Trial, folder: str | Path) -> Result | None:
        """The stored result of a trial; None when it has none, or one that was cut short."""
        try:
            value = json.loads((Path(folder) / trial.key / RESULT).read_text(encoding="utf-8"))
            return replace(cls.from_json(value), trial=trial)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, folder: str | Path) -> None:
        """Store it, at once or not at all."""
        place = Path(folder) / self.key
        place.mkdir(parents=True, exist_ok=True)
        write_atomic(place / RESULT, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")


def run_trial(trial: Trial, folder: str | Path) -> Result:
    """Measure a trial, or read what was measured; a "failed" one is tried again.

    Whatever goes wrong is told in the result, not raised; only an interrupt is.
    """
    found = Result.read(trial, folder)
    if found is not None:
        return found
    place = Path(folder) / trial.key
    begin = time.perf_counter()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _alone(place):
            found = Result.read(trial, folder)
            if found is not None:
                return found
            result = _measure(trial, place)
            result.write(folder)
            shutil.rmtree(place / "checkpoints", ignore_errors=True)
            return result
    except Exception as error:
        return Result(trial, "failed", plain(error), seconds=time.perf_counter() - begin)


def plain(error: BaseException) -> str:
    """An exception in the words of someone who wants to go on."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else ""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left on device" in text or "os error 28" in text:
        return "the disk is full: free some space and give the same command again (what is finished is kept)"
    starved = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text
    if starved or "not enough memory" in text:
        return f"not enough memory for this size: {text or 'allocation refused'}; fewer rows (--batch) or fewer cores need less"
    if isinstance(error, ValueError):
        return text
    return f"{type(error).__name__}: {text}"


def _measure(trial: Trial, place: Path) -> Result:
    """Train or count."""
    import torch

    from genus.plan.branches import branch
    from genus.prepare.dataset import Dataset

    kind = "descended" if trial.base else branch(trial.recipe).kind
    data = Dataset.open(trial.data)
    if data.fingerprint != trial.fingerprint:
        raise ValueError(
            f"{trial.data} is not the data this trial was made for (its fingerprint differs); "
            "prepare it as before, or make a new plan for it"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(trial.threads)
    try:
        if kind == "counted":
            from genus.plan.trials.counted import measure
        else:
            from genus.plan.trials.trajectory import measure
        return measure(trial, data, place)
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold the trial's folder, so that a worker whose parent was killed and its successor do not write to it together."""
    with open(place / "lock", "w") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def peak_memory() -> int:
    """Most bytes that this process held at once since `forget_peak` (of device memory where one is used).

    Not by `getrusage`, which also counts what the parent held when it started us.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return peak_resident()


def forget_peak() -> None:
    """Give back what an earlier trial of this process left, and begin to look for the peak anew (on Linux)."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if sys.platform == "linux":
        gc.collect()
        if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
            trim(0)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def _end_with_parent() -> None:
    """Stop as soon as whoever started this process is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def answer(spec: str, folder: str) -> str:
    """`run_trial` for a worker that may serve several trials: from JSON to JSON."""
    forget_peak()
    return json.dumps(run_trial(Trial.from_json(json.loads(spec)), folder).to_json())


def main(arguments: list[str]) -> int:
    """Run the trial whose JSON and folder are given; without them, every [JSON, folder] of the lines that come in."""
    _end_with_parent()
    out, sys.stdout = sys.stdout, sys.stderr  # nothing but answers goes out
    tasks = [arguments] if arguments else map(json.loads, sys.stdin)
    for spec, folder in tasks:
        print(answer(spec, folder), file=out, flush=True)
    return 0


if __name__ == "__main__":
    from genus.plan.trials import trial as module  # the one that the others import, not the copy called __main__

    sys.exit(module.main(sys.argv[1:]))
