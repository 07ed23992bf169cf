"""Predict: the rows of a file, labelled. Every row and every column is kept; a row that cannot be used says why."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genus.prepare.records import STDIN, Entry, Record, Rejected, stream
from genus.tune.counted import counted
from genus.tune.labeller import ERROR, Labeller
from genus.tune.predictions import Writer, check, kind_of, opened
from genus.tune.task import Say

if TYPE_CHECKING:
    from genus.generate.beam import Beam
    from genus.tune.metrics import Counts

AT_ONCE = 2048  # rows that are read, sorted by length and written together

Advance = Callable[[int], None]


@dataclass
class Tally:
    """What was done: rows in all, rows with an error, scores of those that had a label of their own."""

    rows: int = 0
    errors: int = 0
    cut: int = 0
    seconds: float = 0.0
    scores: dict[str, float] = field(default_factory=dict)
    labelled: int = 0


@dataclass
class _Scored:
    """What the scores of rows with a label of their own need; not the rows, so that a million of them take little room."""

    labeller: Labeller
    rows: int = 0
    counts: Counts | None = None
    problem: ValueError | None = None

    def add(self, rows: Sequence[Record], found: Sequence[tuple[Record, Any]]) -> None:
        """Count rows, with what `Labeller.label` said of them."""
        task, named = self.labeller.task, map(self.labeller.named, rows)
        pairs = [(p, row) for row, (_, p) in zip(named, found, strict=True) if p is not None and task.problem(row) is None]
        if not pairs or self.problem is not None:
            return
        self.rows += len(pairs)
        try:
            counts = task.counts([p for p, _ in pairs], [row for _, row in pairs])
            self.counts = counts if self.counts is None else self.counts + counts
        except ValueError as error:  # the predictions are worth keeping all the same
            self.problem = error

    def scores(self) -> dict[str, float]:
        """Scores by name.

        Raises:
            ValueError: something that scores need is missing.
        """
        if self.problem is not None:
            raise self.problem
        return {} if self.counts is None else self.counts.scores()


def predict(
    run: str | Path,
    file: str | Path,
    out: str | Path | None = None,
    *,
    text: str | None = None,
    pair: str | None = None,
    dtype: str = "auto",
    beam: Beam | None = None,
    say: Say | None = None,
    advance: Advance | None = None,
    at_once: int = AT_ONCE,
) -> Tally:
    """Label the rows of a file.

    Args:
        run: a tuned run, or a classifier in Hugging Face layout. file: any format that `genus tune` reads; "-" = standard input.
        out: a .jsonl, .csv or .tsv file (also .gz), which appears when it is complete; None = JSON lines on standard output.
        text, pair: what the file calls the columns that are read, where it has other names than the labels had.
        dtype: "auto", "bf16" or "fp32". beam: how a task that writes texts searches for the most probable one; None = token by
            token. say: told how it went; None = standard error. advance: told how many rows are done, after every `at_once` rows;
            what it raises ends the work, and no file appears.

    Raises:
        ValueError: the model does no task, a column is missing, or OUT is FILE or of a kind that cannot be written.
    """
    say = say or (lambda message: print(message, file=sys.stderr))
    check(file, out)
    labeller = Labeller.load(run, text, pair, dtype, beam)
    tally, begin = Tally(), time.perf_counter()
    scored = _Scored(labeller)
    first = True
    with opened(out) as target:
        writer: Writer | None = None
        for entries in _chunks(stream(file), at_once):
            rows = [each.record for each in entries if isinstance(each, Entry)]
            if first:
                labeller.check(rows, file)
                first = not rows
            writer = writer or Writer(target, kind_of(out), labeller.task.added, file, rows)
            found = labeller.label(rows)
            labelled = iter(found)
            for each in entries:
                if isinstance(each, Rejected):
                    added: Record = {ERROR: each.reason}
                    writer.write(each.record or {"value": each.excerpt}, added)
                else:
                    added, _ = next(labelled)
                    writer.write(each.record, added)
                tally.rows += 1
                tally.errors += added.get(ERROR) is not None
            scored.add(rows, found)
            if advance is not None:
                advance(tally.rows)
    tally.seconds, tally.cut, tally.labelled = time.perf_counter() - begin, labeller.cut, scored.rows
    tally.scores = scored.scores()
    _report(tally, labeller, file, out, say)
    return tally


def _report(tally: Tally, labeller: Labeller, file: str | Path, out: str | Path | None, say: Say) -> None:
    if not tally.rows:
        say(f"{'standard input' if str(file) == STDIN else file} has no rows: there was nothing to label")
        return
    speed = tally.rows / max(tally.seconds, 1e-9)
    where = "" if out is None else f" to {out}"
    say(f"{counted(tally.rows, 'row')}{where}, {speed:,.0f} a second; {tally.errors:,} with an error")
    if tally.cut:
        say(f"cut at {counted(labeller.limit, 'token')}: {counted(tally.cut, 'text')}; what comes after was not read")
    if tally.scores:
        shown = ", ".join(f"{name} {value:.3f}" for name, value in tally.scores.items() if name != "loss")
        say(f"{counted(tally.labelled, 'row')} with a label of their own: {shown}")


def _chunks(entries: Iterator[Entry | Rejected], count: int) -> Iterator[list[Entry | Rejected]]:
    while chunk := list(islice(entries, count)):
        yield chunk
