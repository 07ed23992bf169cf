"""Calibrate: what each branch does on this machine, measured with the real training step, in processes of their own.

A branch is measured at three sizes and two batches (a counted branch at shares of the corpus growing fourfold), by as many
processes at once as will work at once later: a core whose neighbours are busy is slower. Results are kept in the user's cache
folder under everything they depend on, so that the next plan does not measure again.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from genus.plan.branches import branch, branches
from genus.plan.machine import costs
from genus.plan.machine.cache import cache_file, cached, keep, machine, precision
from genus.plan.machine.costs import Rung
from genus.plan.machine.crew import Crew
from genus.plan.machine.measured import Calibration, Setting, warnings
from genus.plan.machine.model import Cell, CountCell
from genus.prepare.dataset import Dataset
from genus.recipes import make
from genus.recipes.recipe import Recipe

LOW, HIGH = 100_000, 10_000_000  # parameters between which a branch is measured, where nobody says
SMALL = 4  # the smaller batch is this part of the larger
UPDATES = 4  # of the larger batch that the time of a size should be enough for
SHORTEST = 0.5  # seconds of measurement at least
SPARE = 2.0  # seconds that a second size may take, however little time is left
ALONE = Setting()
Say = Callable[[str], None]


def calibrate(
    wanted: Iterable[str],
    data: str | Path | Dataset,
    seconds: float,
    setting: Setting = ALONE,
    low: int = LOW,
    high: int = HIGH,
    cache: bool = True,
    say: Say = lambda _: None,
) -> dict[str, Calibration]:
    """Measure several branches in `seconds` together; what the cache knows leaves its time to the others.

    Arguments as of `measure`.
    """
    data = data if isinstance(data, Dataset) else Dataset.open(data)
    end = time.monotonic() + seconds
    found = branches(wanted)
    share = seconds / len(found)
    known = {b.name: c for b in found if cache and (c := cached(b, data, share, setting))}
    result = dict(known)
    for i, one in enumerate(b for b in found if b.name not in known):
        share = (end - time.monotonic()) / (len(found) - len(known) - i)
        result[one.name] = measure(one.name, data, max(share, 1.0), setting, low, high, cache, say)
    return {b.name: result[b.name] for b in found}


def measure(
    name: str,
    data: str | Path | Dataset,
    seconds: float = 30.0,
    setting: Setting = ALONE,
    low: int = LOW,
    high: int = HIGH,
    cache: bool = True,
    say: Say = lambda _: None,
) -> Calibration:
    """Measure a branch, or read what was measured.

    Args:
        name: of the branch. data: a prepared folder. seconds: that it may take; a little more where one update takes long.
        setting: threads, processes at once, context, batch (a quarter of it is measured as well), precision.
        low, high: parameters of the smallest and the largest size; the largest gives way to the time.
        cache: False measures anew and keeps nothing. say: told what was found before, and warnings.

    Raises:
        ValueError: no such branch, no shape in that range, or the training step failed; with the reason.
    """
    data = data if isinstance(data, Dataset) else Dataset.open(data)
    one = branch(name)
    if cache and (found := cached(one, data, seconds, setting)) is not None:
        say(f"{name}: measured before ({cache_file(one, data, setting)})")
        return found
    begin = time.monotonic()
    empty = Calibration(
        name=one.name,
        recipe=one.recipe,
        kind=one.kind,
        machine=machine(),
        threads=setting.threads,
        processes=setting.processes,
        vocab=data.vocab_size,
        context=setting.context,
        dtype=precision(setting.dtype),
        tokens=data.split("train").tokens,
    )
    task = {
        "data": str(data.root),
        "recipe": one.recipe,
        "counted": one.kind == "counted",
        "context": setting.context,
        "dtype": setting.dtype,
        "threads": setting.threads,
    }
    if one.kind == "counted":
        result = _count(empty, task, seconds)
    else:
        rows = setting.batch or make(one.recipe).training.batch  # type: ignore[attr-defined]
        result = _descend(empty, {**task, "batches": sorted({max(1, rows // SMALL), rows})}, seconds, low, high)
    result = replace(result, seconds=time.monotonic() - begin, warnings=warnings(result))
    for warning in result.warnings:
        say(f"warning: {warning}")
    if cache:
        keep(cache_file(one, data, setting), result, say)
    return result


def _descend(empty: Calibration, task: dict[str, Any], seconds: float, low: int, high: int) -> Calibration:
    """The smallest size, then one between it and the largest that the time allows, then that."""
    end = time.monotonic() + seconds
    vocab, context, rows = empty.vocab, empty.context, task["batches"][-1]
    smallest = _smallest(empty, low, max(low, high))
    questions = [(smallest.wish, task["batches"], 0.2)]  # size, batches, share of the time that is left
    cells: list[Cell] = []
    ceiling = 0.0
    with Crew(task, empty.processes) as crew:
        while questions:
            wish, batches, share = questions.pop(0)
            working = max(SHORTEST, share * (end - time.monotonic()))
            recipe = costs.sized(empty.recipe, wish, vocab, context, rows)
            question = {"parameters": wish, "batches": batches, "seconds": working}
            try:
                answers = crew.ask(question, working, f"{recipe.parameters_total:,} parameters")
            except ValueError:
                if not cells:
                    raise
                break  # it did not fit into memory, say: what was measured must do
            ceiling = max([ceiling, *(a["ceiling"] for a in answers)])
            cells += [_cell(recipe, empty, crew.base, i, answers) for i in range(len(batches))]
            if wish == smallest.wish:
                questions = _larger(empty, smallest, cells[-1].update, end - time.monotonic(), high, task["batches"])
        return replace(empty, cells=tuple(cells), ceiling=ceiling, startup=crew.startup)


def _larger(
    empty: Calibration, smallest: Rung, update: float, seconds: float, high: int, batches: list[int]
) -> list[tuple[int, list[int], float]]:
    """Two more sizes; one with the smaller batch alone where the time is short, since one size says little of others."""
    top = _largest(empty, smallest, UPDATES * update, 0.5 * seconds, high)
    if top > smallest.wish:
        middle = _between(empty, smallest.wish, top)
        return [*([(middle, batches, 0.35)] if middle else []), (top, batches, 1.0)]
    top = _largest(empty, smallest, UPDATES * update * batches[0] / batches[-1], max(SPARE, 0.5 * seconds), high)
    return [(top, batches[:1], 1.0)] if top > smallest.wish else []


def _smallest(empty: Calibration, low: int, high: int) -> Rung:
    """The first shape from `low` parameters up."""
    wish = low
    while True:
        try:
            return costs.rung(costs.sized(empty.recipe, wish, empty.vocab, empty.context), wish, empty.context)
        except ValueError:
            if wish >= high:
                raise
            wish = min(int(1.1 * wish) + 1, high)


def _between(empty: Calibration, low: int, high: int) -> int | None:
    """A wish near the middle of two, on a logarithmic scale; None where no shape lies there."""
    middle = math.sqrt(low * high)
    for factor in (1.0, 1.1, 0.9, 1.2, 0.8):
        try:
            recipe = costs.sized(empty.recipe, round(factor * middle), empty.vocab, empty.context)
        except ValueError:
            continue
        if 1.2 * low < recipe.parameters_total < high / 1.2:
            return round(factor * middle)
    return None


def _largest(empty: Calibration, smallest: Rung, cost: float, seconds: float, high: int) -> int:
    """The largest wish, at most `high`, that costs no more than `seconds` if the smallest costs `cost` and operations decide.

    The smallest again where that leaves hardly a larger one.
    """
    wish = float(high)
    while wish > 1.5 * smallest.wish:
        try:
            recipe = costs.sized(empty.recipe, int(wish), empty.vocab, empty.context)
            if cost * recipe.model.flops(0, empty.context) / smallest.forward <= seconds:
                return int(wish)
        except ValueError:
            pass
        wish /= 1.25
    return smallest.wish


def _cell(recipe: Recipe, empty: Calibration, base: int, number: int, answers: list[dict[str, Any]]) -> Cell:
    """Batch number `number` of every process as one cell: the mean speed, the most memory, the widest spread."""
    of = [a["cells"][number] for a in answers]
    rows, micro = of[0]["rows"], of[0]["micro"]
    itemsize = 4 if empty.dtype == "fp32" else 2
    memory = costs.training_memory(recipe, micro, itemsize)
    evaluations = [c["evaluation"] for c in of if c["evaluation"] is not None]
    return Cell(
        **asdict(costs.parameters(recipe.model)),
        forward=float(recipe.model.flops(0, empty.context)),
        layers=costs.sublayers(recipe.model),
        numbers=costs.activations(recipe.model, empty.context),
        rows=rows,
        context=empty.context,
        micro=micro,
        fixed=memory.fixed,
        moving=memory.moving,
        tokens_per_s=statistics.fmean(c["tokens_per_s"] for c in of),
        spread=max(c["spread"] for c in of),
        busy=min(c["busy"] for c in of) / empty.threads,
        base=base,
        peak=None if any(c["peak"] is None for c in of) else max(c["peak"] for c in of),
        evaluation=min(evaluations) if evaluations else None,
        decode=statistics.fmean(a["decode"] for a in answers),
        read=costs.decoding(recipe, empty.context, 4).read,
    )


def _count(empty: Calibration, task: dict[str, Any], seconds: float) -> Calibration:
    end = time.monotonic() + seconds
    with Crew(task, empty.processes) as crew:
        working = max(SHORTEST, end - time.monotonic())
        answers = crew.ask({"seconds": working}, working, "counting")
        base, startup = crew.base, crew.startup
    cells = []
    for of in zip(*(a["cells"] for a in answers)):  # as many shares as every process had time for
        cells.append(
            CountCell(
                tokens=of[0]["tokens"],
                seconds=statistics.fmean(c["seconds"] for c in of),
                spread=max(c["spread"] for c in of),
                parameters=of[0]["parameters"],
                base=base,
                peak=max(c["peak"] for c in of),
            )
        )
    return replace(empty, counts=tuple(cells), startup=startup, decode=statistics.fmean(a["decode"] for a in answers))
