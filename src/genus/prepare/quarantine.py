"""Everything that was dropped or changed, by step, with the place where it stands: DATA/rejected/STEP.jsonl.

    {"source": file, "name": member or page, "line": n, "step": ..., "action": "dropped" | "changed", "reason": ...,
     "excerpt": ..., "after": ..., "instead": {"source": file, "name": ..., "line": n}}

`name`, `after` (the text as it became) and `instead` (the document that is kept in its place) only where there is one. Line 0 is
the file as a whole.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from genus.prepare.items import Reject, excerpt
from genus.prepare.plan import Plan
from genus.prepare.workspace import Workspace, appearing

if TYPE_CHECKING:
    import pyarrow as pa

    from genus.prepare.steps.step import Outcome, Place

READ, REPEATS, MIXTURE = "read", "repeats", "mixture"
"""What is no cleaning step but drops documents: reading, exact repeats, the shares of a mixture."""
FOLDER = "rejected"


class Rejections:
    """What one unit of one stage dropped and changed."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[Rejections]:
        """In a file that comes into being complete when the block ends."""
        with appearing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            yield cls(file)

    def unreadable(self, part: int, reject: Reject) -> None:
        """A record that gave no document."""
        self._write(READ, "dropped", part, reject.line, reject.name, reject.reason, reject.excerpt)

    def tell(self, step: str, batch: pa.RecordBatch, outcome: Outcome) -> None:
        """What a step did to a batch."""
        if not outcome.drops and not outcome.changes:
            return
        numbers = batch.column("row").to_numpy()
        place = {name: batch.column(name) for name in ("part", "line", "name")}

        def of(row: int) -> tuple[int, int, str | None]:
            at = int(np.searchsorted(numbers, row))
            if at == len(numbers) or numbers[at] != row:
                raise ValueError(f"the step {step} told of document {row}, which is not in the batch it was given")
            return place["part"][at].as_py(), place["line"][at].as_py(), place["name"][at].as_py()

        for drop in outcome.drops:
            self._write(step, "dropped", *of(drop.row), drop.reason, drop.excerpt, instead=drop.instead)
        for change in outcome.changes:
            self._write(step, "changed", *of(change.row), change.reason, change.before, change.after)

    def drop(self, step: str, batch: pa.RecordBatch, at: int, reason: str, text: str) -> None:
        """A document of a batch that something other than a step leaves out."""
        part, line, name = (batch.column(column)[at].as_py() for column in ("part", "line", "name"))
        self._write(step, "dropped", part, line, name, reason, excerpt(text))

    def _write(
        self,
        step: str,
        action: str,
        part: int,
        line: int,
        name: str | None,
        reason: str,
        shown: str,
        after: str | None = None,
        instead: Place | None = None,
    ) -> None:
        record: dict[str, Any] = {"part": part, "name": name, "line": line, "step": step, "action": action, "reason": reason}
        record |= {"excerpt": shown, "after": after, "instead": instead}
        record = {key: value for key, value in record.items() if value is not None}
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")


def collect(space: Workspace, plan: Plan, stages: list[str]) -> Counter[tuple[int, str]]:
    """Write DATA/rejected/STEP.jsonl from what the stages told; returns how many each step dropped of each source."""
    folder = space.folder / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    dropped: Counter[tuple[int, str]] = Counter()
    lines_before = _lines_before(space, plan)

    def place(unit: int, part: int, line: int, name: str | None = None) -> dict[str, Any]:
        label = plan.sources[plan.units[unit][part].source].label
        named = {} if name is None else {"name": name}
        return {"source": label, **named, "line": line + lines_before[unit][part] if line else 0}

    with ExitStack() as stack:
        files: dict[str, IO[str]] = {}
        for unit, record in _told(space, plan, stages):
            step, part = record["step"], record.pop("part")
            if record["action"] == "dropped":
                dropped[plan.units[unit][part].source, step] += 1
            entry = {"source": "", **record, **place(unit, part, record["line"])}
            if "instead" in record:
                *kept, name = record["instead"]
                entry["instead"] = place(*kept) | ({} if name is None else {"name": name})
            if step not in files:
                files[step] = stack.enter_context(open(folder / f"{step}.jsonl", "w", encoding="utf-8"))
            files[step].write(json.dumps(entry, ensure_ascii=False) + "\n")
    return dropped


def _told(space: Workspace, plan: Plan, stages: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(unit, record) of everything that `Rejections` wrote."""
    for stage in stages:
        for unit in range(len(plan.units)):
            with open(space.file(stage, unit, "rejected"), encoding="utf-8") as file:
                for text in file:
                    yield unit, json.loads(text)


def _lines_before(space: Workspace, plan: Plan) -> list[list[int]]:
    """For every part of every unit, how many lines its file has before it."""
    seen: Counter[int] = Counter()
    before: list[list[int]] = []
    for unit, parts in enumerate(plan.units):
        counts = space.facts("round-0", unit)["parts"]
        before.append([])
        for number, part in enumerate(parts):
            before[-1].append(seen[part.source])
            if number < len(counts):  # not all parts are read in a dry run
                seen[part.source] += counts[number]["lines"]
    return before
