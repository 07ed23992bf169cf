"""Evaluate a model on a split of prepared data."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genus.evaluate.baselines import compressed, counted
from genus.evaluate.interval import FEWEST, bootstrap
from genus.evaluate.scoring import Scorer, how
from genus.evaluate.texts import Documents
from genus.modalities.text import Tokenizer
from genus.parts.ngram import NGram
from genus.prepare.dataset import Dataset
from genus.prepare.progress import Progress
from genus.recipes.training import Training
from genus.run import Loaded, load, write_atomic
from genus.spec import Spec, from_json
from genus.train.machine import compute_dtype, default_device

FILE = "evaluation.json"  # in a run directory: its newest evaluation, which the report shows
WINDOW = 2048  # of a model that does not say how long its texts were, or says more
BLOCKS = 200  # parts into which too few documents are cut for the interval


@dataclass(frozen=True)
class Measure:
    """What one system reaches.

    Attributes:
        bits_per_byte: -log2 of the probability of all targets (end tokens included) per UTF-8 byte of the original text.
        interval: of bits_per_byte, 95 %; None where there is none.
        perplexity: per token of its own tokenizer. per_word, per_character: the same probability spread over what white space
            separates, and over all characters; None for what is not a language model.
        tokens: targets scored. about: how it was done.
    """

    name: str
    bits_per_byte: float
    interval: tuple[float, float] | None = None
    perplexity: float | None = None
    per_word: float | None = None
    per_character: float | None = None
    tokens: int | None = None
    seconds: float = 0.0
    about: str = ""


@dataclass(frozen=True)
class Evaluation:
    """A model's measure on a split, and what stands beside it.

    Attributes:
        window, stride: None where the model sees the whole document. beside: counting and compression on the same text.
        notes: what a reader must know to compare the figures.
    """

    data: str
    fingerprint: str
    split: str
    documents: int
    bytes: int
    words: int
    characters: int
    chinese: float
    window: int | None
    stride: int | None
    dtype: str
    model: Measure
    beside: tuple[Measure, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return dataclasses.asdict(self)

    def write(self, path: Path) -> None:
        """Write the JSON form, replacing an older file whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n")


def evaluate(
    model: str | Path | Loaded,
    data: str | Path | Dataset,
    split: str = "validation",
    *,
    window: int | None = None,
    stride: int | None = None,
    documents: int | None = None,
    dtype: str = "fp32",
    beside: bool = True,
    order: int = 5,
    batch: int = 8192,
    progress: Progress | None = None,
) -> Evaluation:
    """Bits per byte and perplexity of a left-to-right model.

    Every target is counted once, and no document sees another. If the model has another tokenizer than the data, the text is
    decoded and encoded again; bits per byte stay comparable.

    Args:
        model: a run, a folder in Hugging Face layout, or one already loaded. data: a folder that `genus prepare` made.
        window, stride: of a model with attention; None = its context (at most 2,048), and half of it.
        documents: this many, evenly spaced; None = all. dtype: fp32, bf16 or auto.
        beside: also measure an n-gram of this `order` and xz. batch: positions computed at once.

    Raises:
        ValueError: no such split, an unsuitable model, or a window it cannot have.
    """
    loaded = load(model) if not isinstance(model, Loaded) else model
    data = data if isinstance(data, Dataset) else Dataset.open(data)
    chosen = Documents.choose(data, split, documents)
    progress = progress or Progress("none")
    tokenizer = loaded.tokenizer or data.tokenizer
    same = tokenizer.fingerprint == data.tokenizer.fingerprint and tokenizer.eos_id == data.tokenizer.eos_id
    notes = list(_about_data(loaded, data, split, tokenizer, same))
    _check_vocabulary(loaded.spec, tokenizer)
    kind = how(loaded.spec)
    if kind == "slide":
        window, stride = _window(loaded, window, stride, notes)
    elif window is not None or stride is not None:
        notes.append("the model carries its state through whole documents; --window and --stride do not apply")
    chosen.count()
    precision = compute_dtype(dtype, default_device())
    scorer = Scorer(
        loaded.model if kind == "count" else loaded.model.to(default_device()).eval(),
        loaded.spec,
        tokenizer.bos_id,
        window if kind == "slide" and window else 1,
        stride if kind == "slide" and stride else 1,
        precision,
        batch,
    )
    measured = _measure(_name(loaded), scorer, chosen, None if same else tokenizer, progress)
    if chosen.changed:
        notes.append(f"{chosen.changed:,} of {len(chosen.numbers):,} texts did not come back from their tokens byte for byte")
    units = (
        "documents" if len(chosen.numbers) >= FEWEST else f"blocks of {_block(chosen)} tokens of fewer than {FEWEST} documents"
    )
    notes.insert(0, f"intervals: 95 %, bootstrap over {units}")
    return Evaluation(
        data=str(data.root),
        fingerprint=data.fingerprint,
        split=split,
        documents=len(chosen.numbers),
        bytes=int(chosen.bytes.sum()),
        words=chosen.words,
        characters=chosen.characters,
        chinese=chosen.chinese / max(1, chosen.characters),
        window=window if kind == "slide" else None,
        stride=stride if kind == "slide" else None,
        dtype=str(precision).removeprefix("torch."),
        model=measured,
        beside=tuple(_beside(chosen, order, progress)) if beside else (),
        notes=tuple(notes),
    )


def _measure(name: str, scorer: Scorer, chosen: Documents, encode: Tokenizer | None, progress: Progress) -> Measure:
    begin = time.perf_counter()
    documents: Iterable[np.ndarray] = chosen.tokens() if encode is None else chosen.encoded(encode)
    few = len(chosen.numbers) < FEWEST
    block = _block(chosen)
    nats: list[float] = []
    units: list[tuple[float, float]] = []
    tokens = 0
    with progress.stage(name, float(chosen.lengths.sum()), "thousand tokens", 1e3) as stage:
        for scores, size in zip(scorer(documents, stage.advance), chosen.bytes, strict=True):
            nats.append(-float(scores.sum(dtype=np.float64)))
            tokens += len(scores)
            units += _blocks(scores, int(size), block) if few else [(nats[-1], float(size))]
    total, size = math.fsum(nats), int(chosen.bytes.sum())
    found = bootstrap(*np.array(units).T)
    return Measure(
        name,
        bits_per_byte=total / math.log(2) / max(1, size),
        interval=None if found is None else (found[0] / math.log(2), found[1] / math.log(2)),
        perplexity=_power(total, tokens),
        per_word=_power(total, chosen.words),
        per_character=_power(total, chosen.characters),
        tokens=tokens,
        seconds=time.perf_counter() - begin,
    )


def _blocks(scores: np.ndarray, size: int, block: int) -> list[tuple[float, float]]:
    """(nats, bytes) of blocks of one document; the bytes are shared out by tokens."""
    starts = np.arange(0, len(scores), block)
    nats = -np.add.reduceat(scores.astype(np.float64), starts)
    lengths = np.diff(starts, append=len(scores))
    return list(zip(nats.tolist(), (lengths * (size / len(scores))).tolist(), strict=True))


def _block(chosen: Documents) -> int:
    return max(16, int(chosen.lengths.sum()) // BLOCKS)


def _power(nats: float, count: int) -> float | None:
    """exp(nats per unit); None without units or beyond what a float holds."""
    return math.exp(nats / count) if count and nats / count < 700 else None


def _beside(chosen: Documents, order: int, progress: Progress) -> Iterator[Measure]:
    data = chosen.data
    if (data.manifest["splits"].get("train") or {}).get("documents"):
        begin = time.perf_counter()
        progress.note(f"{order}-gram of the training split")
        with counted(data, order) as (model, about):
            scorer = Scorer(model, model.spec, data.tokenizer.bos_id, 1, 1)
            found = _measure(f"{order}-gram", scorer, chosen, None, progress)
        yield dataclasses.replace(found, about=about, seconds=time.perf_counter() - begin)
    begin = time.perf_counter()
    progress.note("xz")
    xz = compressed(chosen)
    part = "" if xz.size >= chosen.bytes.sum() else f" on the first {xz.size / 2**20:.0f} MiB"
    if xz.before:
        about = f"LZMA2, preset 9{part}, primed with {xz.before / 2**20:.2f} MiB of training text; {xz.cold:.4f} when not primed"
    else:
        about = f"LZMA2, preset 9{part}, not primed"
    yield Measure("xz", xz.primed, seconds=time.perf_counter() - begin, about=about)


# ---- what the model is


def _name(loaded: Loaded) -> str:
    recipe = loaded.config.get("recipe") or {}
    name = recipe.get("name") or type(loaded.spec).__name__
    return f"{loaded.path.resolve().name} ({name})" if isinstance(loaded.spec, NGram) or recipe else loaded.path.resolve().name


def _check_vocabulary(spec: Spec, tokenizer: Tokenizer) -> None:
    size = spec.vocab if isinstance(spec, NGram) else spec.embed.vocab  # type: ignore[attr-defined]
    if tokenizer.vocab_size > size:
        raise ValueError(
            f"the model has {size:,} tokens and the tokenizer {tokenizer.vocab_size:,}: they do not belong together; "
            "put the model's own tokenizer.json into its folder"
        )


def _about_data(loaded: Loaded, data: Dataset, split: str, tokenizer: Tokenizer, same: bool) -> Iterator[str]:
    if loaded.tokenizer is None:
        yield "the model brings no tokenizer; the data's is taken for its own"
    if not same:
        if data.tokenizer.kind == "words":
            raise ValueError(
                f"{data.root} was prepared with a word tokenizer, which loses text, and the model has another tokenizer; "
                "prepare the text again with --tokenizer bpe, bytes or chars"
            )
        yield "the model has another tokenizer than the data: text decoded and encoded again, so compare bits per byte alone"
    if data.tokenizer.kind == "words":
        yield "a word tokenizer writes <unk> for rare words, which are then easy to predict: bits per byte look too good"
    trained = (loaded.config.get("data") or {}).get("fingerprint")
    if trained and trained != data.fingerprint:
        yield "the run was trained on other data than this"
    elif trained and split == "train":
        yield "the model was trained on this split"


def _window(loaded: Loaded, window: int | None, stride: int | None, notes: list[str]) -> tuple[int, int]:
    longest = loaded.spec.context  # type: ignore[attr-defined]
    made_for = context_of(loaded) or longest
    for name, value in (("window", window), ("stride", stride)):
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, not {value}")
    wanted = window or min(made_for or WINDOW, WINDOW)
    if longest and wanted > longest:
        if window is not None:
            notes.append(f"window {window:,} cut to {longest:,}: the model has no more learned positions")
        wanted = longest
    elif window is not None and made_for and window > made_for:
        notes.append(f"the window is longer than the {made_for:,} positions the model was made for")
    return wanted, stride if stride is not None else max(1, wanted // 2)


def context_of(loaded: Loaded) -> int | None:
    """Positions the model was made for, as its run or its folder says."""
    if loaded.config.get("recipe"):
        training = from_json(loaded.config["recipe"]).training
    else:
        from genus.export.huggingface import describe

        training = describe(loaded.path).training
    return training.context if isinstance(training, Training) else None
