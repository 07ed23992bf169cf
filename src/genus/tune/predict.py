"""Predict: the rows of a file, labelled. Every row and every column is kept; a row that cannot be used says why."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import torch

import genus.tune.tasks  # noqa: F401  (registers every task)
from genus.prepare.records import STDIN, Entry, Record, Rejected, stream
from genus.recipes.recipe import Recipe
from genus.run import Loaded, load
from genus.spec import from_json
from genus.train.machine import compute_dtype, default_device
from genus.tune.base import Base
from genus.tune.counted import counted
from genus.tune.examples import Examples
from genus.tune.fitting import predict as predicted
from genus.tune.options import TuneOptions
from genus.tune.task import Say, Task, columns_told
from genus.tune.tasks.classification import Classification
from genus.tune.writing import WritingTask

if TYPE_CHECKING:
    from genus.generate.beam import Beam
    from genus.tune.metrics import Counts

AT_ONCE = 2048  # rows that are read, sorted by length and written together
OUTPUTS = (".jsonl", ".csv", ".tsv")
ERROR = "error"

Advance = Callable[[int], None]


@dataclass
class Labeller:
    """A tuned model, ready to label rows. `Labeller.load(run)` makes one.

    Attributes:
        columns: what the file calls the columns that the task reads, where it has other names. beam: how a task that writes
            texts searches for them; None = token by token.
    """

    task: Task
    base: Base
    model: Any
    limit: int
    dtype: torch.dtype = torch.float32
    columns: dict[str, str] = field(default_factory=dict)
    beam: Beam | None = None
    cut: int = 0

    @classmethod
    def load(
        cls,
        run: str | Path | Loaded,
        text: str | None = None,
        pair: str | None = None,
        dtype: str = "auto",
        beam: Beam | None = None,
    ) -> Labeller:
        """Open a tuned run or a classifier in Hugging Face layout, or take what `genus.load` returned.

        A classifier that was not tuned here says what its labels are, but not which columns it reads: those that are named, else
        `text`.

        Raises:
            ValueError: the model does no task, or a beam is asked for and its task writes no text. FileNotFoundError: it has no
                model.
        """
        loaded = run if isinstance(run, Loaded) else load(run)
        path = loaded.path
        task = _task(loaded, text, pair)
        if beam is not None and not isinstance(task, WritingTask):
            raise ValueError(f"{path} was tuned for {task.name} and writes no text to search for; leave out the beam")
        if loaded.tokenizer is None:
            raise ValueError(f"{path} has lost its tokenizer; tune it again")
        saved, given = loaded.config.get("recipe"), loaded.config.get("options")
        recipe = (from_json(saved) if saved else Recipe(path.name)).replace(model=loaded.spec)
        base = Base("run", recipe, loaded.tokenizer, path, None, loaded.config.get("task"))
        options = TuneOptions.from_json(given) if given else TuneOptions()
        device = default_device()
        named = zip(task.columns, (text, pair), strict=False)
        columns = {name: own for name, own in named if own is not None and own != name}
        model = loaded.model.to(device).eval()
        return cls(task, base, model, base.limit(options), compute_dtype(dtype, device), columns, beam)

    def __call__(self, rows: Sequence[Record]) -> list[Record]:
        """The columns to add to each row: prediction, probability ..., or `error`."""
        return [each for each, _ in self.label(rows)]

    def label(self, rows: Sequence[Record]) -> list[tuple[Record, Any]]:
        """The columns to add to each row, and the prediction as `Task.score` reads it (None where there is none)."""
        named = list(map(self.named, rows))
        problems = [self.task.problem(row, labelled=False) for row in named]
        good = [i for i, problem in enumerate(problems) if problem is None]
        found: list[tuple[Record, Any]] = [({ERROR: problem}, None) for problem in problems]
        if good:
            examples = Examples.encode(self.task, [named[i] for i in good], self.base.tokenizer, self.limit, self.base.types)
            self.cut += examples.cut
            predictions, _ = predicted(self.model, self.task, self.base, examples, self.dtype, beam=self.beam)
            for i, prediction in zip(good, predictions, strict=True):
                found[i] = ({ERROR: "no prediction"}, None) if prediction is None else (self.task.render(prediction), prediction)
        return found

    def named(self, row: Record) -> Record:
        """The row with its columns called as the task calls them."""
        return row | {name: row[own] for name, own in self.columns.items() if own in row} if self.columns else row

    def check(self, rows: Iterable[Record], path: str | Path) -> None:
        """Whether some row has the columns that the task reads.

        Raises:
            ValueError: none has one of them; the message lists those that are there.
        """
        there = list(dict.fromkeys(name for row in rows for name in row))
        needed = self.task.columns[: max(1, len(self.task.texts({})))]
        for number, name in enumerate(needed):
            own = self.columns.get(name, name)
            if there and own not in there:
                flag = ("--text", "--pair")[min(number, 1)]
                raise ValueError(
                    f"{path} has no column {own!r}, which the model reads; its columns are {columns_told(own, there)}. "
                    f"Name the one to read with {flag}"
                )


def _task(loaded: Loaded, text: str | None, pair: str | None) -> Task:
    """What the model does."""
    if "task" in loaded.config:
        return from_json(loaded.config["task"])  # type: ignore[no-any-return]
    told = loaded.labels
    if told is None or told.problem != "single_label_classification":
        raise ValueError(
            f"{loaded.path} was not made by genus tune and is no classifier, so it does no task; tune it first: "
            f"genus tune {loaded.path} LABELS -o RUN"
        )
    outputs: int = loaded.spec.head.outputs  # type: ignore[attr-defined]
    return Classification(text or "text", pair, labels=told.names or tuple(f"LABEL_{i}" for i in range(outputs)))


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
    _writable(file, out)
    labeller = Labeller.load(run, text, pair, dtype, beam)
    tally, begin = Tally(), time.perf_counter()
    scored = _Scored(labeller)
    first = True
    with _written(out) as target:
        writer: _Writer | None = None
        for entries in _chunks(stream(file), at_once):
            rows = [each.record for each in entries if isinstance(each, Entry)]
            if first:
                labeller.check(rows, file)
                first = not rows
            writer = writer or _Writer(target, _kind(out), labeller, file, rows)
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


class _Writer:
    """Writes rows as JSON lines or as a table whose columns are known from the start."""

    def __init__(self, target: TextIO, kind: str, labeller: Labeller, file: str | Path, rows: Sequence[Record]) -> None:
        self.target, self.kind = target, kind
        columns = _columns(file, rows) if kind != ".jsonl" else list(dict.fromkeys(name for row in rows for name in row))
        self.added = labeller.task.added
        self.free = {name: _free(name, columns) for name in (*self.added, ERROR)}
        self.columns = [*columns, *self.free.values()]
        if kind != ".jsonl":
            self._line(self.columns)

    def write(self, row: Record, added: Record) -> None:
        told = {name: added.get(name) for name in (*self.added, ERROR)}
        if self.kind == ".jsonl":
            # Rows of JSON need not have the same columns: one that was not met before keeps its value too.
            free = {name: _free(name, row) if own in row else own for name, own in self.free.items()}
            whole = row | {free[name]: value for name, value in told.items()}
            self.target.write(json.dumps(whole, ensure_ascii=False, default=str) + "\n")
            return
        whole = row | {self.free[name]: value for name, value in told.items()}
        strange = {name: value for name, value in row.items() if name not in self.columns or name in self.free.values()}
        if strange:  # without a column, as in a row that could not be read: kept, as text, beside the reason
            lost = json.dumps(strange, ensure_ascii=False, default=str)
            whole[self.free[ERROR]] = f"{added.get(ERROR) or 'not in the columns'}: {lost}"
        self._line([_cell(whole.get(name)) for name in self.columns])

    def _line(self, cells: Sequence[str]) -> None:
        if self.kind == ".csv":
            csv.writer(self.target, lineterminator="\n").writerow(cells)
        else:  # without quotes, as it is read
            self.target.write("\t".join(re.sub(r"[\t\r\n]", " ", cell) for cell in cells) + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _columns(file: str | Path, rows: Sequence[Record]) -> list[str]:
    """All columns of a file: a second look at it, since rows of JSON need not have the same."""
    if str(file) == STDIN:
        return list(dict.fromkeys(name for row in rows for name in row))
    found: dict[str, None] = {}
    for entry in stream(file):
        if isinstance(entry, Entry):
            found.update(dict.fromkeys(entry.record))
    return list(found)


def _free(name: str, columns: Collection[str]) -> str:
    """The name of a new column that takes no old one's place."""
    number, free = 1, name
    while free in columns:
        number += 1
        free = f"{name} {number}"
    return free


def _kind(out: str | Path | None) -> str:
    return ".jsonl" if out is None else Path(str(out).removesuffix(".gz")).suffix.lower()


def _writable(file: str | Path, out: str | Path | None) -> None:
    if out is not None and str(file) != STDIN and Path(out).resolve() == Path(file).resolve():
        raise ValueError(f"{out} is the file that is read, and would be written over; choose another -o")
    if _kind(out) not in OUTPUTS:
        raise ValueError(f"{out}: predictions are written as {', '.join(OUTPUTS)} (also .gz)")
    if _kind(out) == ".tsv" and ".tsv" not in Path(str(file)).suffixes:
        raise ValueError(f"{out}: a .tsv cannot hold texts with tabs and line ends, as {file} may have; choose .csv or .jsonl")


@contextmanager
def _written(out: str | Path | None) -> Iterator[TextIO]:
    """A file that takes its place when it is complete; standard output for None."""
    if out is None:
        yield sys.stdout
        return
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    opened: Any = gzip.open(temporary, "wb") if path.suffix == ".gz" else open(temporary, "wb")  # noqa: SIM115 (closed with the text around it)
    try:
        with io.TextIOWrapper(opened, encoding="utf-8", newline="") as target:
            yield target
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, path)
