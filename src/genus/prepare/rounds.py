"""One round over a unit: documents in, the steps of the round over every batch, documents, facts and an account of it out.

Round 0 reads the sources; every later one begins with what a survey decided on the round before it, and reads what that stored:

    sources -> steps -> observe        (decide)        apply -> steps -> observe        (decide)        apply -> steps
    round 0                                            round 1                                          round 2, the last

The texts are stored in between, so a source is read once. Files of a round and unit in the journal:

    round-N-UNIT.arrow       the documents that are left
    round-N-UNIT.observed    what the survey at the end of the round was told of them
    round-N-UNIT.rejected    JSON lines: what was dropped and changed
    round-N-UNIT.npz         of the last round: what the driver knows of every document (`known.py`)
    round-N-UNIT.json        the marker: counts by step
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genus.prepare import histograms
from genus.prepare.batches import Builder, read_store, writing
from genus.prepare.dataset import HELD_OUT
from genus.prepare.funnel import Tally
from genus.prepare.items import Document, Lines, Reject
from genus.prepare.known import Recorder
from genus.prepare.plan import Plan
from genus.prepare.quarantine import READ, Rejections
from genus.prepare.steps import names
from genus.prepare.steps.step import Function, Step, Survey
from genus.prepare.units import read
from genus.prepare.workspace import Workspace, appearing

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Round:
    """The steps of one round.

    Attributes:
        applies: the survey whose decision it begins with; None for the first.
        steps: those run on every batch after it.
        observes: the survey that it ends with; None for the last.
        names: what those are called that drop and change documents in this round: `applies`, then `steps`.
    """

    applies: Survey | None
    steps: tuple[Step, ...]
    observes: Survey | None
    names: tuple[str, ...]


def rounds_of(steps: tuple[Step, ...]) -> list[Round]:
    """Steps, cut at the surveys."""
    rounds: list[Round] = []
    applies: Survey | None = None
    between: list[Step] = []
    called: list[str] = []
    for step, name in zip(steps, names(steps), strict=True):
        if isinstance(step, Survey):
            rounds.append(Round(applies, tuple(between), step, tuple(called)))
            applies, between, called = step, [], [name]
        else:
            between.append(step)
            called.append(name)
    return [*rounds, Round(applies, tuple(between), None, tuple(called))]


def stage(number: int) -> str:
    """What the journal calls a round."""
    return f"round-{number}"


def last_stage(steps: tuple[Step, ...]) -> str:
    """The round whose documents are tokenized."""
    return stage(sum(isinstance(step, Survey) for step in steps))


def run_unit(space: Workspace, plan: Plan, number: int, unit: int) -> None:
    """Do one unit of a round, from reading it to its marker."""
    this = rounds_of(plan.steps)[number]
    name = stage(number)
    account = _Account()
    recorder = Recorder(plan, unit)
    spread: dict[str, histograms.Counts] = {}
    with (
        Rejections.writing(space.file(name, unit, "rejected")) as rejections,
        writing(space.file(name, unit, "arrow"), plan.pairs) as store,
        _observing(space.file(name, unit, "observed"), this.observes) as observe,
    ):
        source = _Reader(plan, unit, rejections) if number == 0 else None
        functions = _functions(space, this, number, unit)
        for batch in source.batches() if source else read_store(space.file(stage(number - 1), unit, "arrow")):
            if source:
                account.of(READ).enter(batch)
                histograms.add(spread, "read", batch)
            left = _run(batch, functions, account, rejections)
            if left.num_rows:
                store.write(left)
                observe(left)
                if this.observes is None:
                    recorder.see(left)
                    histograms.add(spread, "kept", left)
    if this.observes is None:
        recorder.save(space.file(name, unit, "npz"))
    facts: dict[str, Any] = {"steps": {step: account.of(step).to_json() for step in this.names}, "histograms": spread}
    if source:
        account.of(READ).dropped = source.reasons
        facts |= {"read": account.of(READ).to_json(), "parts": source.parts, "remarks": source.remarks}
    if recorder.uneven:
        facts["uneven"] = recorder.uneven
    space.mark_done(name, unit, facts)


def _functions(space: Workspace, this: Round, number: int, unit: int) -> list[tuple[str, Function]]:
    functions = [_ready(step) for step in this.steps]
    if this.applies is not None:
        functions.insert(0, this.applies.apply(space.decision(number), unit))
    return list(zip(this.names, functions, strict=True))


@lru_cache(maxsize=64)
def _ready(step: Step) -> Function:
    """Once in every process, because it may load a model."""
    return step.ready()


def forget_loaded() -> None:
    """Let steps load again what they need: files may have changed since another run in this process."""
    _ready.cache_clear()


def _run(
    batch: pa.RecordBatch, functions: list[tuple[str, Function]], account: _Account, rejections: Rejections
) -> pa.RecordBatch:
    for name, function in functions:
        if not batch.num_rows:
            break
        outcome = function(batch)
        if outcome.batch.num_rows + len(outcome.drops) != batch.num_rows:
            raise ValueError(
                f"the step {name} made {outcome.batch.num_rows:,} documents of {batch.num_rows:,} and told of "
                f"{len(outcome.drops):,} drops: a step may not lose documents or make new ones"
            )
        rejections.tell(name, batch, outcome)
        account.of(name).pass_on(outcome)
        batch = outcome.batch
    return batch


@dataclass
class _Account:
    """What every step did in this unit."""

    tallies: dict[str, Tally] = field(default_factory=dict)

    def of(self, step: str) -> Tally:
        return self.tallies.setdefault(step, Tally())


class _Reader:
    """Documents of a unit's sources in batches; what cannot be used goes to the rejections.

    Attributes:
        parts: for every part, its lines and documents. remarks: what the user should know. reasons: rejected records by reason.
    """

    def __init__(self, plan: Plan, unit: int, rejections: Rejections) -> None:
        self.parts: list[dict[str, int]] = []
        self.remarks: list[str] = []
        self.reasons: Counter[str] = Counter()
        self._plan, self._unit, self._rejections = plan, unit, rejections

    def batches(self) -> Iterator[pa.RecordBatch]:
        builder = Builder(self._plan.pairs)
        left = self._plan.most_bytes
        for number, part in enumerate(self._plan.units[self._unit]):
            source = self._plan.sources[part.source]
            held_out = source.split in HELD_OUT
            counts = {"lines": 0, "documents": 0}
            self.parts.append(counts)
            for item in read(source, part, self._plan.split_documents):
                if isinstance(item, Document):
                    counts["documents"] += 1
                    if (batch := builder.add(item, number, held_out)) is not None:
                        yield batch
                    left -= len(item.text)
                    if left <= 0:
                        break
                elif isinstance(item, Reject):
                    self.reasons[item.reason] += 1
                    self._rejections.unreadable(number, item)
                elif isinstance(item, Lines):
                    counts["lines"] = item.number
                else:
                    self.remarks.append(f"{source.label}: {item.text}")
            if left <= 0:
                break
        if (batch := builder.flush()) is not None:
            yield batch


@contextmanager
def _observing(path: Path, survey: Survey | None) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Write what a survey says of batches into a file that can be memory-mapped; none when it says nothing."""
    import pyarrow as pa

    if survey is None:
        yield lambda batch: None
        return
    writer: Any = None
    with appearing(path) as temporary:

        def observe(batch: pa.RecordBatch) -> None:
            nonlocal writer
            if (table := survey.observe(batch)) is not None:
                writer = writer or pa.ipc.new_file(str(temporary), table.schema)
                writer.write(table)

        yield observe
        (writer or pa.ipc.new_file(str(temporary), pa.schema([]))).close()


class Observations:
    """(unit, table) of every unit of which a survey has something to say, memory-mapped; may be gone through several times."""

    def __init__(self, space: Workspace, plan: Plan, number: int) -> None:
        self._paths = [(unit, space.file(stage(number), unit, "observed")) for unit in range(len(plan.units))]

    def __iter__(self) -> Iterator[tuple[int, pa.Table]]:
        import pyarrow as pa

        for unit, path in self._paths:
            with pa.memory_map(str(path)) as file:
                table = pa.ipc.open_file(file).read_all()
                if table.num_columns:
                    yield unit, table
