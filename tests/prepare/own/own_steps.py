"""Steps for the tests of the machinery: named on the command line by their import path, as a user's would be."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from genus.prepare.steps.step import Function, Outcome, Step, Survey, follow, keep, replace_text


@dataclass(frozen=True)
class Shout(Step):
    """Write small words large, drop what has a number that `drop` divides."""

    NAME: ClassVar[str] = "shout"

    drop: int = 7

    def ready(self) -> Function:
        def run(batch: pa.RecordBatch) -> Outcome:
            texts = batch.column("text").to_pylist()
            changed = replace_text(batch, [text.replace("the", "THE") for text in texts], "shouted", counts={"words": len(texts)})
            numbers = [int(text.split(" number ")[1].split()[0]) for text in changed.batch.column("text").to_pylist()]
            return follow(changed, lambda left: keep(left, [n % self.drop != 0 for n in numbers], "unlucky"))

        return run


@dataclass(frozen=True)
class Often(Survey):
    """Drop the documents that begin with one of the most frequent first words of all."""

    NAME: ClassVar[str] = "often"

    most: int = 1

    def observe(self, batch: pa.RecordBatch) -> pa.Table:
        words = [text.split()[0] for text in batch.column("text").to_pylist()]
        return pa.table({"row": batch.column("row"), "word": words})

    def decide(self, observed: Iterable[tuple[int, pa.Table]], folder: Path, seed: int) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        for _, table in observed:
            counts.update(table.column("word").to_pylist())
        again = sum(table.num_rows for _, table in observed)
        chosen = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: self.most]]
        (folder / "words.json").write_text(json.dumps(chosen))
        return {"seen": again, "words": chosen}

    def apply(self, folder: Path, unit: int) -> Function:
        words = set(json.loads((folder / "words.json").read_text()))

        def run(batch: pa.RecordBatch) -> Outcome:
            return keep(batch, [text.split()[0] not in words for text in batch.column("text").to_pylist()], "too often")

        return run


@dataclass(frozen=True)
class OftenAgain(Often):
    """The same, a second time."""

    NAME: ClassVar[str] = "often-again"


@dataclass(frozen=True)
class Loses(Step):
    """Loses documents without a word."""

    NAME: ClassVar[str] = "loses"

    def ready(self) -> Function:
        return lambda batch: Outcome(batch.slice(1), [], [], {})


@dataclass(frozen=True)
class Dies(Step):
    """Kills the process it runs in, the first time that it sees the file."""

    NAME: ClassVar[str] = "dies"

    once: str = ""

    def ready(self) -> Function:
        import os
        import signal

        def run(batch: pa.RecordBatch) -> Outcome:
            try:
                os.unlink(self.once)
            except FileNotFoundError:
                return Outcome(batch, [], [], {})
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        return run
