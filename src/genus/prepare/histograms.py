"""Small histograms of a corpus, for the page that `genus report DATA` makes.

What is counted are whole numbers in fixed bins, so that the sum over batches, units and workers is exact in any order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.modalities.pieces import pieces
from genus.modalities.vocabulary import kinds

if TYPE_CHECKING:
    import pyarrow as pa

    from genus.modalities.text import Tokenizer

Counts = dict[str, dict[str, int]]
"""Of each distribution, how many documents have a value; the values as text."""

LENGTH, LANGUAGE = "length", "language"
EDGES = sorted({round(2 ** (quarter / 4)) for quarter in range(4 * 36)})
"""Bins of lengths in characters, four to an octave: from each number up to the next."""

BINS = 50
BLOCK = 2**24
SHOWN_LANGUAGES = 40
RARE = 10
EXAMPLES = 24
UNKNOWN_LANGUAGE = "?"


def of_batch(batch: pa.RecordBatch) -> Counts:
    """Lengths, languages and scores of the documents of a batch. Scores are the columns of floats, added by steps."""
    import pyarrow as pa
    import pyarrow.compute as pc

    characters = pc.utf8_length(batch.column("text")).to_numpy(zero_copy_only=False)
    places, documents = np.unique(np.searchsorted(EDGES, characters, side="right") - 1, return_counts=True)
    found: Counts = {LENGTH: {str(EDGES[max(0, p)]): int(n) for p, n in zip(places, documents, strict=True)}}
    for field in batch.schema:
        column = batch.column(field.name)
        if field.name == LANGUAGE and column.null_count < len(column):
            values = pc.value_counts(pc.fill_null(column, UNKNOWN_LANGUAGE)).to_pylist()
            found[LANGUAGE] = {each["values"]: each["counts"] for each in values}
        elif pa.types.is_floating(field.type):
            found[field.name] = of_values(column.to_numpy(zero_copy_only=False))
    return found


def of_values(values: np.ndarray | Iterable[float]) -> dict[str, int]:
    """How many numbers there are of each: to two decimals, and beyond 1 to two digits. What is no number is left out."""
    array = np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)
    array = array[np.isfinite(array)]
    found = Counter(_rounded(array).tolist())
    return {f"{value:g}": count for value, count in sorted(found.items())}


def counts(name: str, values: np.ndarray | Iterable[float]) -> dict[str, int]:
    """The same for the `counts` of a step's Outcome, as {"NAME=VALUE": documents}: a distribution of all that the step saw.

    One that is called "NAME dropped" is of those among them that the step drops.
    """
    return {f"{name}={value}": count for value, count in of_values(values).items()}


def merge(a: Mapping[str, Mapping[str, int]], b: Mapping[str, Mapping[str, int]]) -> Counts:
    """The counts of both."""
    return {name: dict(Counter(a.get(name, {})) + Counter(b.get(name, {}))) for name in {**a, **b}}


def add(into: dict[str, Counts], name: str, batch: pa.RecordBatch) -> None:
    """Count a batch among those of a name: "read" before the first step, "kept" after the last."""
    into[name] = merge(into.get(name, {}), of_batch(batch))


def corpus(told: Iterable[Mapping[str, Counts]]) -> dict[str, Any]:
    """The manifest's form of what `add` counted in every unit and round."""
    total: dict[str, Counts] = {}
    for each in told:
        for name, found in each.items():
            total[name] = merge(total.get(name, {}), found)
    return {name: finish(found) for name, found in sorted(total.items())}


def finish(found: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """The manifest's form: {"length": {"edges": (n + 1), "counts": (n)}, "language": {name: documents}}; scores are as length."""
    done: dict[str, Any] = {}
    for name in sorted(found):
        if name == LANGUAGE:
            done[name] = _most(found[name])
        elif name == LENGTH:
            done[name] = _lengths(found[name])
        elif found[name]:
            done[name] = spread({float(value): count for value, count in found[name].items()})
    return done


def spread(found: Mapping[float, int]) -> dict[str, list[Any]]:
    """Bins of equal width over the values: 0 to 1 where all lie there. The last bin also holds the highest half per cent."""
    values = sorted(found)
    low, high = values[0], values[-1]
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    else:
        high = max(_quantile(found, 0.995), low + 1e-6 * max(1.0, abs(low)))
    width = (high - low) / BINS
    bins = [0] * BINS
    for value in values:
        bins[min(BINS - 1, int((value - low) / width + 1e-9))] += found[value]
    return {"edges": [float(f"{low + i * width:.6g}") for i in range(BINS + 1)], "counts": bins}


class Tokens:
    """How often each entry of a vocabulary stands in a stream of tokens."""

    def __init__(self, vocab_size: int) -> None:
        self.counts = np.zeros(vocab_size, dtype=np.int64)

    def add(self, ids: np.ndarray) -> None:
        self.counts += np.bincount(ids, minlength=len(self.counts))

    def finish(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """The manifest's form.

        entries: without special tokens; used: met at all; rare: met fewer than RARE times; coverage: [[number of most frequent
        entries, their share of all tokens], ...]; ranks: [[rank, times], ...];
        kinds: {kind: [entries, used, share of all tokens]}; frequent: [[text, times], ...]; unused: texts.
        """
        kind = kinds(tokenizer)
        text = np.array([k != "special" for k in kind])
        numbers = np.flatnonzero(text)
        met = self.counts[numbers]
        order = np.argsort(-met, kind="stable")
        ranked = met[order]
        total = max(1, int(met.sum()))
        summed = np.cumsum(ranked)
        places = _spaced(len(ranked))
        used = int((met > 0).sum())
        by_kind: dict[str, list[float]] = {}
        for number, count in zip(numbers.tolist(), met.tolist(), strict=True):
            entry = by_kind.setdefault(kind[number], [0, 0, 0])
            entry[0] += 1
            entry[1] += count > 0
            entry[2] += count
        unknown = tokenizer.id(str(tokenizer.config.get("unk_token") or ""))
        return {
            "entries": len(numbers),
            "used": used,
            "rare": int(((met > 0) & (met < RARE)).sum()),
            "tokens": int(met.sum()),
            "unknown": 0 if unknown is None else int(self.counts[unknown]),
            "coverage": [[place, round(int(summed[place - 1]) / total, 6)] for place in places],
            "ranks": [[place, int(ranked[place - 1])] for place in places if ranked[place - 1] > 0],
            "kinds": {name: [a, b, round(c / total, 6)] for name, (a, b, c) in sorted(by_kind.items())},
            "frequent": [[_shown(tokenizer, int(numbers[i])), int(met[i])] for i in order[:EXAMPLES] if met[i] > 0],
            "unused": [_shown(tokenizer, int(numbers[i])) for i in order[used : used + EXAMPLES]],
        }


def vocabulary(tokenizer: Tokenizer, files: Iterable[Path]) -> dict[str, Any]:
    """`Tokens.finish` of .npy files of tokens, mapped one after the other."""
    tokens = Tokens(tokenizer.vocab_size)
    for file in sorted(files):
        stream = np.load(file, mmap_mode="r", allow_pickle=False)
        for start in range(0, len(stream), BLOCK):
            tokens.add(stream[start : start + BLOCK])
    return tokens.finish(tokenizer)


def _rounded(values: np.ndarray) -> np.ndarray:
    scale = 10.0 ** (np.floor(np.log10(np.maximum(np.abs(values), 1.0))) - 1)
    return np.where(np.abs(values) <= 1, np.round(values, 2), np.round(values / scale) * scale) + 0.0  # + 0.0: no minus zero


def _lengths(found: Mapping[str, int]) -> dict[str, list[Any]]:
    places = sorted(EDGES.index(int(edge)) for edge in found)
    if not places:
        return {"edges": [], "counts": []}
    edges = EDGES[places[0] : places[-1] + 2]
    return {"edges": edges, "counts": [found.get(str(edge), 0) for edge, _ in pairwise(edges)]}


def _most(found: Mapping[str, int]) -> dict[str, int]:
    """The most frequent, and the others under one name."""
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ranked[SHOWN_LANGUAGES:])
    return dict(ranked[:SHOWN_LANGUAGES]) | ({"other": rest} if rest else {})


def _quantile(found: Mapping[float, int], share: float) -> float:
    left = share * sum(found.values())
    for value in sorted(found):
        left -= found[value]
        if left <= 0:
            return value
    return max(found)


def _spaced(count: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 11 ... up to `count`."""
    halves = range(2 * math.ceil(math.log2(max(count, 2))) + 1)
    return sorted({*(min(count, round(2 ** (half / 2))) for half in halves), count})


def _shown(tokenizer: Tokenizer, number: int) -> str:
    text = pieces(tokenizer, [number])[0]
    return tokenizer.token(number) or "" if text == "\ufffd" else text
