"""Interpolated modified Kneser-Ney estimation of an n-gram model.

Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (1998), section 3, with the conventions of
Heafield et al., "Scalable Modified Kneser-Ney Language Model Estimation" (2013), so that the result is what lmplz computes:

* the highest order counts occurrences, and so does every gram that begins a document; all others count the different words
  that precede them;
* p(w | h) = (a(hw) - D(a(hw))) / a(h.) + gamma(h) p(w | h'), where gamma(h) is what the discounts of h's words leave over;
* single tokens are interpolated with 1 / vocab, so that a token that was never seen has a probability;
* a gram is pruned by its occurrences; discounts are found before pruning, and the pruned mass goes to gamma.

Unlike lmplz's, the vocabulary is closed: all token ids share the uniform part, and no further unknown word does.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genus.ops import processor
from genus.parts.ngram import NGram, index_dtype
from genus.parts.ngram_files import load_ngram, write_config
from genus.train.ngram_counts import Column, Counter, Grams, Progress, TokenSplit

FALLBACK = (0.5, 1.0, 1.5)


def estimate(
    split: TokenSplit,
    order: int,
    vocab_size: int,
    bos_id: int,
    eos_id: int,
    out_folder: str | Path,
    memory: int = 2 * 2**30,
    prune: Sequence[int] = (),
    workers: int | None = None,
    progress: Progress | None = None,
) -> NGram.Module:
    """Count `split` and write the model to `out_folder`, which appears complete or not at all.

    Args:
        split: `.tokens`, `.ends` (exclusive end of each document), `.read(start, stop)`; documents are stored without BOS and
            end with EOS. memory: bytes for arrays; more data is sorted on disk, beside `out_folder`, and gives the same
            model bit for bit. prune: see `NGram.prune`. workers: threads; None = all that this process can keep busy.
        progress: called with (stage, done, total).

    Raises:
        ValueError: an empty split, a token outside the vocabulary, a bad order or pruning.
    """
    spec = NGram(order, vocab_size, bos_id, eos_id, tuple(prune))
    if not split.tokens or not len(split.ends) or split.ends[-1] != split.tokens:
        raise ValueError(
            f"nothing to count: the split has {split.tokens} tokens in {len(split.ends)} documents; prepare more text"
        )
    out = Path(out_folder)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    work = partial / "work"
    work.mkdir(parents=True)
    workers = workers or processor.threads()
    try:
        with ThreadPoolExecutor(workers) as pool:
            counter = Counter(split, vocab_size, bos_id, work, memory, pool, workers, progress or (lambda *_: None))
            sizes = _Estimator(spec, counter, partial).run()
        shutil.rmtree(work)
        write_config(partial, spec.replace(grams=tuple(sizes)))
        _replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return load_ngram(out)


def discounts(counts_of_counts: Sequence[int]) -> tuple[float, float, float]:
    """D1, D2, D3+ from how many grams have an (adjusted) count of 1, 2, 3 and 4 (Chen and Goodman 1998, equation 26).

    D_k = k - (k + 1) Y n_{k+1} / n_k with Y = n_1 / (n_1 + 2 n_2). When n_1, n_2 or n_3 is zero (tiny corpora, and characters
    at low orders) or some D_k is not in (0, k] the formula has no meaning, and all three are 0.5, 1 and 1.5, as lmplz has it.
    """
    n1, n2, n3, n4 = counts_of_counts
    if not n1 * n2 * n3:
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return found if all(0 < d <= k for k, d in enumerate(found, 1)) else FALLBACK


@dataclass
class _Estimator:
    spec: NGram
    counter: Counter
    out: Path

    def run(self) -> list[int]:
        """Write all tables; entries per order from 2 up."""
        counter, order = self.counter, self.spec.order
        unigrams = counter.unigrams()
        levels: list[Grams] = []
        for k in range(2, order + 1):
            levels.append(counter.next_order(levels[-1] if levels else None, top=k == order))
            if len(levels) > 1:
                levels[-2].nodes.delete()
        if levels:
            unigrams = self._preceding(levels[0], self.spec.vocab).read(0, self.spec.vocab)
        lower = self._unigram_probabilities(unigrams)
        kept: Column | None = None  # rank of every gram of the order below after pruning, -1 if pruned; None: none was
        sizes = []
        for grams in levels:
            adjusted = grams.counts if grams.order == order else self._adjusted(grams, levels[grams.order - 1])
            lower, kept, size = self._interpolate(grams, adjusted, lower, kept)
            sizes.append(size)
            for column in (grams.keys, grams.counts, grams.suffixes, adjusted):
                column.delete()
        return sizes

    def _final(self, name: str, dtype: Any) -> Column:
        return Column(self.out / f"{name}.npy", dtype)

    def _preceding(self, above: Grams, size: int) -> Column:
        """How many different words precede each of `size` grams: entries of the order above whose suffix it is."""
        out = self.counter.column(f"preceding_{above.order}")
        span = max(1, self.counter.memory // 32)
        for low in range(0, size, span):  # one pass over the suffixes for each span that fits in memory
            high = min(low + span, size)
            counts = np.zeros(high - low, self.counter.index)
            for _, suffixes in above.suffixes.blocks(self.counter.block):
                inside = suffixes if high - low == size else suffixes[(suffixes >= low) & (suffixes < high)]
                np.add.at(counts, inside - low, counts.dtype.type(1))
            out.append(counts)
        return out

    def _adjusted(self, grams: Grams, above: Grams) -> Column:
        adjusted = self._preceding(above, len(grams.keys))
        for start in range(grams.first_bos, len(grams.keys), self.counter.block):
            adjusted.write(start, grams.counts.read(start, start + self.counter.block))
        return adjusted

    def _unigram_probabilities(self, counts: np.ndarray) -> Column:
        discount = np.array([0.0, *discounts(_histogram(counts)[1:5].tolist())])
        classes = np.minimum(counts, 3)
        gamma = discount[classes].sum() / counts.sum()
        probabilities = (counts - discount[classes]) / counts.sum() + gamma / self.spec.vocab
        final = self._final("log_probs_1", np.float32)
        final.append(np.log(probabilities))
        final.finish()
        column = self.counter.column("probabilities_1", np.float64)
        column.append(probabilities)
        return column

    def _interpolate(
        self, grams: Grams, adjusted: Column, lower: Column, kept_below: Column | None
    ) -> tuple[Column, Column | None, int]:
        """Write the tables of one order and the back-off weights of the order below.

        Args:
            adjusted: count of each gram. lower: probabilities of the order below. kept_below: see `run`.

        Returns:
            Probabilities of this order (of all grams, also pruned ones); what was kept; how many grams were.
        """
        order, vocab, counter = grams.order, self.spec.vocab, self.counter
        histogram = np.sum([_histogram(counts) for _, counts in adjusted.blocks(counter.block)] or [np.zeros(6)], axis=0)
        discount = np.array([0.0, *discounts(histogram[1:5].tolist())])
        threshold = self.spec.threshold(order)
        shorter = self._gather(lower, grams.suffixes, f"shorter_{order}")
        parents = vocab + 1 if order == 2 else len(lower)
        probabilities = counter.column(f"probabilities_{order}", np.float64)
        kept = counter.column(f"kept_{order}") if threshold or kept_below is not None else None
        size = sum(int((c > threshold).sum()) for _, c in grams.counts.blocks(counter.block))
        words, log_probs = self._final(f"words_{order}", np.int32), self._final(f"log_probs_{order}", np.float32)
        backoffs = self._final(f"backoffs_{order - 1}", np.float32)
        children = self._final(f"children_{order - 1}", index_dtype(size))
        children.append(np.zeros(1))
        start = done_parents = 0
        while start < len(grams.keys):
            counter.progress(f"order {order}: probabilities", start, len(grams.keys))
            keys = grams.keys.read(start, start + max(counter.block, vocab + 1))
            if start + len(keys) < len(grams.keys):  # all words of a context belong in one block
                keys = keys[: np.searchsorted(keys, keys[-1] // vocab * vocab)]
            stop = start + len(keys)
            parent = keys // vocab
            counts = adjusted.read(start, stop).astype(np.int64)
            group = np.flatnonzero(np.diff(parent, prepend=-1))  # first word of each context
            sizes = np.diff(group, append=len(keys))
            keep = grams.counts.read(start, stop) > threshold
            classes = np.minimum(counts, 3)
            total = np.add.reduceat(counts, group)
            left = np.add.reduceat(np.where(keep, 0, counts), group).astype(np.float64)
            for c in (1, 2, 3):
                left += discount[c] * np.add.reduceat((classes == c) & keep, group, dtype=np.int64)
            gamma = left / total
            p = (counts - discount[classes]) / np.repeat(total, sizes) + np.repeat(gamma, sizes) * shorter.read(start, stop)
            probabilities.append(p)

            # the order below: weight and number of children of each context; 1 and 0 where nothing follows
            last = int(parent[-1]) + 1 if stop < len(grams.keys) else parents
            present = np.ones(last - done_parents, bool) if kept_below is None else kept_below.read(done_parents, last) >= 0
            weights, followers = np.zeros(len(present)), np.zeros(len(present), np.int64)
            weights[parent[group] - done_parents] = np.log(gamma)
            followers[parent[group] - done_parents] = np.add.reduceat(keep, group, dtype=np.int64)
            backoffs.append(weights[present])
            children.append(len(words) + np.cumsum(followers[present]))

            if kept is not None:
                kept.append(np.where(keep, len(words) + np.cumsum(keep) - 1, -1))
                keys, p = keys[keep], p[keep]
            words.append(keys % vocab)
            log_probs.append(np.log(p))
            start, done_parents = stop, last
        if not len(grams.keys):
            contexts = parents if kept_below is None else int((kept_below.read(0, parents) >= 0).sum())
            backoffs.append(np.zeros(contexts))
            children.append(np.zeros(contexts))
        for column in (words, log_probs, backoffs, children):
            column.finish()
        for column in (shorter, lower, *([kept_below] if kept_below else [])):
            column.delete()
        return probabilities, kept, size

    def _gather(self, values: Column, index: Column, name: str) -> Column:
        """`values[index]`, with as much of `values` at a time as memory holds."""
        out = self.counter.column(name, values.dtype)
        span = max(1, self.counter.memory // 32)
        for low in range(0, max(len(values), 1), span):
            part = values.read(low, low + span)
            for start, where in index.blocks(self.counter.block):
                if len(part) == len(values):
                    out.append(part[where])
                    continue
                inside = (where >= low) & (where < low + span)
                block = out.read(start, start + len(where)) if low else np.empty(len(where), values.dtype)
                block[inside] = part[where[inside] - low]
                out.write(start, block)
        return out


def _histogram(counts: np.ndarray) -> np.ndarray:
    """How many counts are 0, 1, 2, 3, 4, and more."""
    return np.bincount(np.minimum(counts, 5), minlength=6)


def _replace_folder(new: Path, old: Path) -> None:
    """Put `new` in the place of `old`; a kill in between leaves the old model under `.NAME.replaced`."""
    aside = old.with_name(f".{old.name}.replaced")
    shutil.rmtree(aside, ignore_errors=True)
    if old.exists():
        old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)
