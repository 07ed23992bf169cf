"""Evaluate a model that makes a target of a source: the loss of the references, and BLEU and chrF of its own texts."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genus.modalities.text import Tokenizer
from genus.objectives.seq2seq import PairRows, Seq2Seq
from genus.prepare.dataset import Dataset
from genus.prepare.progress import Progress
from genus.run import Loaded, load, write_atomic
from genus.train.machine import compute_dtype, default_device

FILE = "translation.json"  # in a run directory
ROWS = 64  # pairs whose loss is computed at once
CHINESE = 0.1  # share of Chinese characters from which BLEU counts them one by one
BORDERS = (10, 20, 30, 40, 50, 60)  # of the lengths that BLEU is shown by, in words

Translate = Callable[[list[str]], list[str]]
"""Source texts to target texts."""


@dataclass(frozen=True)
class Score:
    """A corpus score of sacrebleu with what makes it reproducible."""

    name: str
    value: float
    signature: str


@dataclass(frozen=True)
class LengthScore:
    """BLEU of the sources of `low` to `high` words (white space separates them)."""

    low: int
    high: int
    pairs: int
    bleu: float


@dataclass(frozen=True)
class Translation:
    """What a model is worth on pairs.

    Attributes:
        loss: nats per target token, end tokens included; perplexity: its exponential. bits_per_byte: of the targets.
        scores: BLEU and chrF of the model's own texts; empty where it was not asked for any. decoding: how they were made.
        by_length: BLEU by the length of the source (Bahdanau et al. 2015, figure 2).
        texts: (source, reference, the model's), in the order of the data. notes: what a reader must know.
    """

    data: str
    fingerprint: str
    split: str
    pairs: int
    tokens: int
    loss: float
    bits_per_byte: float
    scores: tuple[Score, ...]
    by_length: tuple[LengthScore, ...]
    decoding: str
    seconds: float
    texts: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]

    @property
    def perplexity(self) -> float:
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def score(self, name: str) -> float:
        """The value of "BLEU" or "chrF2".

        Raises:
            ValueError: the model was not asked for texts.
        """
        for score in self.scores:
            if score.name == name:
                return score.value
        raise ValueError(f"there is no {name}: the model was not asked for texts")

    def write(self, path: Path) -> None:
        """Write everything as JSON, replacing an older file whole."""
        text = json.dumps(dataclasses.asdict(self) | {"perplexity": self.perplexity}, indent=1, ensure_ascii=False)
        write_atomic(path, text + "\n")


def evaluate_pairs(
    model: str | Path | Loaded,
    data: str | Path | Dataset,
    split: str = "validation",
    *,
    translate: Translate | None = None,
    decoding: str = "",
    documents: int | None = None,
    dtype: str = "fp32",
    progress: Progress | None = None,
) -> Translation:
    """Loss, perplexity, BLEU and chrF on prepared pairs.

    Args:
        model: a run or a folder of an encoder-decoder, or one already loaded. data: a folder of `genus prepare --pairs`.
        translate: makes the model's texts; None = the loss alone. decoding: how it does, in words.
        documents: this many pairs, evenly spaced; None = all. dtype: fp32, bf16 or auto, of the loss.

    Raises:
        ValueError: the data holds no pairs, or the model reads no source.
    """
    loaded = load(model) if not isinstance(model, Loaded) else model
    data = data if isinstance(data, Dataset) else Dataset.open(data)
    if not data.pairs:
        raise ValueError(f"{data.root} holds single texts and an encoder-decoder needs pairs: genus prepare --pairs")
    if getattr(loaded.spec, "encoder", None) is None:
        raise ValueError(f"{loaded.path} has no encoder to read a source with; its targets alone can be evaluated as text")
    progress = progress or Progress("none")
    part, tokenizer = data.split(split), loaded.tokenizer or data.tokenizer
    assert part.source is not None
    count = part.documents if documents is None else min(documents, part.documents)
    chosen = [int(i) for i in np.linspace(0, part.documents - 1, count).round()]
    sides = [[side.document(i) for i in chosen] for side in (part.source, part)]
    texts = [[data.tokenizer.decode(ids.tolist()) for ids in side] for side in sides]
    notes = []
    if tokenizer.fingerprint != data.tokenizer.fingerprint:
        notes.append("the model has another tokenizer than the data: texts decoded and encoded again, loss in its own tokens")
        sides = [[_encoded(tokenizer, text) for text in side] for side in texts]
    if data.tokenizer.kind == "words":
        notes.append("the data was prepared with a word tokenizer, which loses text: references are not what was written")
    begin = time.perf_counter()
    nats, tokens = _loss(loaded, sides[0], sides[1], tokenizer.bos_id, dtype, progress)
    size = sum(len(text.encode()) for text in texts[1])
    made: list[str] = []
    if translate is not None:
        with progress.stage("rewriting", float(len(texts[0])), "sources", 1) as stage:
            made = translate(texts[0])
            stage.advance(len(texts[0]))
    return Translation(
        data=str(data.root),
        fingerprint=data.fingerprint,
        split=split,
        pairs=count,
        tokens=tokens,
        loss=nats / max(1, tokens),
        bits_per_byte=nats / math.log(2) / max(1, size),
        scores=scores(made, texts[1]) if made else (),
        by_length=by_length(texts[0], made, texts[1]) if made else (),
        decoding=decoding if made else "",
        seconds=time.perf_counter() - begin,
        texts=tuple(zip(*texts, made, strict=True)) if made else (),
        notes=tuple(notes),
    )


def scores(made: Sequence[str], references: Sequence[str]) -> tuple[Score, ...]:
    """BLEU and chrF of texts against one reference each (Post 2018, Popović 2015).

    Raises:
        ValueError: sacrebleu is not installed.
    """
    metrics = _metrics()
    found = []
    for metric in (metrics.BLEU(tokenize=_tokenize(references)), metrics.CHRF()):
        score = metric.corpus_score(list(made), [list(references)])
        found.append(Score(score.name, score.score, str(metric.get_signature())))
    return tuple(found)


def by_length(
    sources: Sequence[str], made: Sequence[str], references: Sequence[str], borders: Sequence[int] = BORDERS
) -> tuple[LengthScore, ...]:
    """BLEU of groups of sources by their number of words; groups without a pair are left out."""
    metric = _metrics().BLEU(tokenize=_tokenize(references))
    lengths = np.array([len(source.split()) for source in sources])
    found = []
    for low, high in zip((0, *borders), (*borders, 10**9)):
        own = np.flatnonzero((lengths > low) & (lengths <= high)).tolist()
        if own:
            score = metric.corpus_score([made[i] for i in own], [[references[i] for i in own]]).score
            found.append(LengthScore(low + 1, min(high, int(lengths.max())), len(own), score))
    return tuple(found)


def _metrics() -> Any:
    try:
        from sacrebleu import metrics
    except ModuleNotFoundError as error:
        raise ValueError('BLEU and chrF need the "eval" extra: pip install "genus[eval]"') from error
    return metrics


def _tokenize(references: Sequence[str]) -> str:
    """sacrebleu's way of finding words."""
    text = "".join(references[:1000])
    chinese = sum("\u4e00" <= character <= "\u9fff" for character in text)
    return "zh" if chinese >= CHINESE * len(text) else "13a"


def _encoded(tokenizer: Tokenizer, text: str) -> np.ndarray[Any, Any]:
    return np.array([*tokenizer.encode(text), tokenizer.eos_id], dtype=np.int64)


@torch.no_grad()
def _loss(loaded: Loaded, sources: list[Any], targets: list[Any], bos: int, dtype: str, progress: Progress) -> tuple[float, int]:
    """Nats of all targets, and how many there are."""
    device = default_device()
    model, precision = loaded.model.to(device).eval(), compute_dtype(dtype, device)
    objective = Seq2Seq()
    total, count = 0.0, 0
    with progress.stage("loss", float(len(targets)), "pairs", 1) as stage:
        for rows in _batches(sources, targets, bos):
            nats, found = objective.loss(model, objective.batch(rows).to(device), dtype=precision)
            total, count = total + float(nats), count + int(found)
            stage.advance(len(rows.targets))
    return total, count


def _batches(sources: list[Any], targets: list[Any], bos: int) -> Iterator[PairRows]:
    order = sorted(range(len(targets)), key=lambda i: len(sources[i]) + len(targets[i]))
    for start in range(0, len(order), ROWS):
        own = order[start : start + ROWS]
        yield PairRows([sources[i] for i in own], [targets[i] for i in own], bos)
