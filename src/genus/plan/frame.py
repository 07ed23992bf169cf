"""What all runs of one plan share: data, context, batch, measured tokens, and how the budget is divided."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genus.ops import processor
from genus.plan.begun import Begun
from genus.plan.branches import Branch
from genus.plan.design.cells import Rules
from genus.plan.machine.costs import Rung
from genus.plan.options import PlanOptions
from genus.plan.trials.trajectory import train_options
from genus.plan.trials.trial import Trial
from genus.prepare.dataset import Dataset
from genus.train.choose import CONTEXT, EFFICIENCY
from genus.train.machine import compute_dtype, default_device, matmul_ceiling

UPDATES = 500  # of the shortest small run: before that, losses are those of the warm-up more than of the size
TYPICAL = 500_000  # parameters of a small run, for the choice of the batch
SPREAD = 20  # times the shortest small run: what a branch's share should train a typical model for
ROWS = (8, 32)  # least and most of an update, where nobody says; fewer learn less from the same tokens (LAB.md)
MEASURED = 131_072  # validation tokens of a measurement, at most
PART = 6  # a measurement takes at most this part of the tokens of the shortest small run
CALIBRATION, PILOT = 0.12, 0.3  # parts of the small runs' time
MEMORY = 0.8  # of the machine's that may be used, where nobody says
PASSES = 4.0  # over the corpus that no small run has to have tried (Muennighoff et al. 2023)
SHORTEST = 60.0  # seconds of a budget under which nothing can be measured

Say = Callable[[str], None]


@dataclass(frozen=True)
class Frame:
    """Settled once, before anything is measured.

    Attributes:
        seconds: the whole budget; small: of it for calibration, pilot and sweep; train: for the run.
        context, batch: positions per row and rows per update of every run. eval_tokens: validation tokens of every measurement.
        cores: processes of the sweep. memory: bytes. ceiling: operations per second of the machine's matrix products.
    """

    data: Dataset
    options: PlanOptions
    seconds: float
    context: int
    batch: int
    eval_tokens: int
    cores: int
    memory: float
    ceiling: float

    @property
    def small(self) -> float:
        return self.seconds * self.options.share

    @property
    def train(self) -> float:
        return self.seconds - self.small

    @property
    def unique(self) -> int:
        """Training tokens of the corpus."""
        return self.data.split("train").tokens

    @property
    def rules(self) -> Rules:
        """Bounds of the sweep's design."""
        return Rules(
            batch_tokens=self.batch * self.context,
            updates=UPDATES,
            unique=float(self.unique),
            passes=PASSES,
            memory=self.memory,
            evaluation_tokens=float(self.eval_tokens),
        )

    def trial(self, branch: Branch, rung: Rung | None, horizons: tuple[int, ...], lr_factor: float = 1.0, seed: int = 0) -> Trial:
        """A small run of one size of a branch."""
        return Trial(
            recipe=branch.recipe,
            parameters=None if rung is None or branch.kind == "counted" else rung.wish,
            horizons=horizons,
            data=str(Path(self.data.root).resolve()),
            fingerprint=self.data.fingerprint,
            context=self.context,
            batch=self.batch,
            lr_factor=lr_factor,
            seed=self.options.seed + seed,
            eval_tokens=self.eval_tokens,
        )

    def training(self, branch: Branch, rung: Rung, first: int, tokens: float, lr_factor: float) -> dict[str, Any]:
        """`TrainOptions` as JSON of a run that continues what the small runs began: the same warm-up, rate and measurement.

        Args:
            first: the shortest horizon of the branch's small runs, which decides the warm-up.
        """
        if branch.kind == "counted":
            return {"eval_tokens": self.eval_tokens, "seed": self.options.seed}
        horizon = max(int(tokens), first + 1)
        trial = self.trial(branch, rung, (first, horizon), lr_factor)
        return train_options(trial, horizon, self.data).to_json()


def settle(data: Dataset, seconds: float, options: PlanOptions, begun: Begun | None, say: Say) -> Frame:
    """Decide what is not said, and say so.

    Args:
        begun: what was settled before the plan was stopped, which then holds.

    Raises:
        ValueError: the budget is too short, or the data cannot be measured on; with what to do.
    """
    if seconds < SHORTEST:
        raise ValueError(
            f"a budget of {seconds:.0f} s is too short for small runs: a plan needs {SHORTEST:.0f} s at the very least, and some "
            "minutes to be worth its name. For less, count: genus train ngram DATA"
        )
    counts = data.manifest["splits"].get("validation") or {}
    if not counts.get("tokens"):
        raise ValueError(f"{data.root} has no validation split to measure on; prepare it again with --validation 0.05")
    unique = data.split("train").tokens
    if unique < 2:
        raise ValueError(f"{data.root} has {unique} training tokens; prepare more text")
    cores = options.cores or processor.threads()
    context = options.context or CONTEXT
    device = default_device()
    ceiling = begun.ceiling if begun else matmul_ceiling(compute_dtype("auto", device), device)
    batch = begun.batch if begun else options.batch
    batch = batch or _rows(seconds * options.share / len(options.branches), context, unique, ceiling)
    shortest = UPDATES * batch * context
    measured = int(min(counts["tokens"], MEASURED, max(shortest // PART, 8192)))
    say(f"every run: rows of {context} tokens, {batch} per update; measured on the first {measured:,} validation tokens")
    memory = options.memory or machine_memory() * MEMORY
    return Frame(data, options, seconds, context, batch, measured, cores, memory, ceiling)


def _rows(seconds: float, context: int, unique: int, ceiling: float) -> int:
    """Rows per update, a power of two: so many that a branch's share of the time is many shortest runs of a typical model."""
    affordable = EFFICIENCY * ceiling * seconds / (6 * TYPICAL)
    wanted = min(affordable, unique * PASSES) / (SPREAD * UPDATES * context)
    rows = ROWS[0]
    while rows * 2 <= min(wanted, ROWS[1]):
        rows *= 2
    return rows


def machine_memory() -> int:
    """Bytes of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
