"""ARPA text files in: from Genus or any other tool, to the sorted tables of `NGram`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from genus.export.arpa import BOS, EOS, LN10, NEVER, UNK
from genus.parts.ngram import IGNORED, NGram, index_dtype

UNKNOWN = -1  # a word that the vocabulary cannot produce
Lines = Iterator[tuple[int, bytes]]
Section = Iterator[tuple[list[bytes], float, float]]


def read_arpa(
    path: str | Path, names: Sequence[str] | None = None, bos: int | None = None, eos: int | None = None
) -> tuple[NGram.Module, list[str]]:
    """The model in an ARPA file, and the word of each token id.

    Args:
        names, bos, eos: the vocabulary the file was written with: `token_names(tokenizer)` and the tokenizer's ids. A token that
            the file lacks counts as `<unk>`. None = ids follow the order of the file's words.

    Raises:
        ValueError: not an ARPA file, cut short, or with words outside the vocabulary; the message has the line.
    """
    with open(path, "rb") as file:
        lines: Lines = ((number, line.strip()) for number, line in enumerate(file, 1))
        try:
            sizes = _read_sizes(lines)
            unigrams = {words[0]: (p, b) for words, p, b in _read_section(lines, 1, sizes)}
            if names is None:
                names = [word.decode() for word in unigrams]
                if BOS not in names or EOS not in names:
                    raise ValueError(f"{BOS} and {EOS} must be among its words, or documents have no border")
                bos, eos = names.index(BOS), names.index(EOS)
            if bos is None or eos is None:
                raise ValueError("give bos and eos, the token ids that names belong to")
            spec = NGram(len(sizes), len(names), bos, eos)
            ids = {name.encode(): i for i, name in enumerate(names)}
            ids[BOS.encode()] = spec.vocab  # as a context
            for word in (UNK, "<UNK>"):
                ids.setdefault(word.encode(), UNKNOWN)
            levels = [_Level.unigrams(spec, unigrams, names)]
            for k in range(2, len(sizes) + 1):
                levels.append(_Level.read(k, _read_section(lines, k, sizes), ids, spec))
            model = _build(spec, levels)
        except ValueError as error:
            raise ValueError(f"{path} cannot be read as an ARPA model: {error}") from error
    return model, list(names)


def _read_sizes(lines: Lines) -> list[int]:
    """Entries per order, from the header; stops after the title of the first section."""
    for _, line in lines:
        if line == b"\\data\\":
            break
    else:
        raise ValueError("there is no \\data\\ line")
    sizes: list[int] = []
    for number, line in lines:
        if line.startswith(b"ngram "):
            sizes.append(int(line.split(b"=")[1]))
        elif line == b"\\1-grams:":
            return sizes
        elif line:
            raise ValueError(f"line {number}: expected 'ngram N=COUNT' or \\1-grams:, not {line[:60]!r}")
    raise ValueError("the file ends in its header")


def _read_section(lines: Lines, order: int, sizes: list[int]) -> Section:
    """(words, log10 p, log10 back-off) of each gram of an order; then the title of the next section is consumed."""
    count = 0
    for number, line in lines:
        if line.startswith(b"\\") and line in (b"\\end\\", b"\\%d-grams:" % (order + 1)):
            if count != sizes[order - 1]:
                raise ValueError(f"line {number}: {count} grams of order {order}, but the header says {sizes[order - 1]}")
            return
        if not line:
            continue
        fields = line.split()
        if not order + 1 <= len(fields) <= order + 2:
            raise ValueError(f"line {number}: expected a probability and {order} words, not {line[:60]!r}")
        count += 1
        yield fields[1 : order + 1], float(fields[0]), float(fields[-1]) if len(fields) == order + 2 else 0.0
    raise ValueError(f"the file ends within order {order}, after {count} of {sizes[order - 1]} grams; get it again")


@dataclass
class _Level:
    words: np.ndarray  # (grams, order) ids; `vocab` is the beginning of a document
    log_probs: np.ndarray  # natural
    backoffs: np.ndarray

    @classmethod
    def read(cls, order: int, section: Section, ids: dict[bytes, int], spec: NGram) -> _Level:
        words: list[list[int]] = []
        values: list[tuple[float, float]] = []
        for spelled, p, backoff in section:
            try:
                words.append([ids[w] for w in spelled])
            except KeyError as error:
                raise ValueError(f"the vocabulary has no word {error.args[0].decode(errors='replace')!r}") from error
            values.append((p, backoff))
        array = np.array(words, np.int32).reshape(-1, order)
        array[:, 1:][array[:, 1:] == spec.vocab] = spec.bos
        numbers = np.array(values, np.float64).reshape(-1, 2) * LN10
        known = (array != UNKNOWN).all(1)
        return cls(array[known], numbers[known, 0], numbers[known, 1])

    @classmethod
    def unigrams(cls, spec: NGram, lines: dict[bytes, tuple[float, float]], names: Sequence[str]) -> _Level:
        unknown = lines.get(UNK.encode(), lines.get(b"<UNK>", (NEVER, 0.0)))
        begin = lines.get(BOS.encode(), unknown)
        values = [lines.get(name.encode(), unknown) for name in names]
        if names[spec.bos] == BOS:  # as a word it never follows anything, though lmplz writes probability 1
            values[spec.bos] = (begin[0] if begin[0] < 0 else NEVER, 0.0)
        numbers = np.array([*values, begin]) * LN10
        extra = {word.decode(errors="replace") for word in lines} - {*names, BOS, UNK, "<UNK>"}
        if extra:
            raise ValueError(f"the vocabulary has no word {min(extra)!r}: it is another tokenizer's model")
        return cls(np.arange(spec.vocab + 1)[:, None], numbers[:-1, 0], numbers[:, 1])

    def __len__(self) -> int:
        return len(self.words)


def _build(spec: NGram, levels: list[_Level]) -> NGram.Module:
    """Sort levels into tables, order by order.

    A gram whose first words have no entry of their own gets one, with the probability that backing off gives: nothing changes.
    """
    vocab, start = spec.vocab, spec.vocab
    spec = spec.replace(order=1)
    tables = {"log_probs_1": levels[0].log_probs.astype(np.float32)}
    backoffs, contexts = levels[0].backoffs, vocab + 1
    nodes = [level.words[:, 0].astype(np.int64) for level in levels]  # of the first words of every gram, as far as they are done
    for k, level in enumerate(levels[1:], start=2):
        longer = range(k - 1, len(levels))
        keys = [nodes[j] * vocab + levels[j].words[:, k - 1] for j in longer]
        unique, first = np.unique(np.concatenate(keys), return_index=True)  # a gram's own line comes before its longer ones
        given = first < len(level)
        if given.sum() < len(level):
            raise ValueError(f"a gram of order {k} is there twice")
        log_probs, weights = np.zeros(len(unique)), np.zeros(len(unique))
        log_probs[given], weights[given] = level.log_probs[first[given]], level.backoffs[first[given]]
        if not given.all():
            words = np.concatenate([levels[j].words[:, :k] for j in longer])[first[~given]].astype(np.int64)
            words[words == start] = spec.bos
            targets = np.full(words.shape, IGNORED)[:, 1:]
            targets[:, -1] = words[:, -1]
            shorter = NGram.Module(spec, tables).score(torch.from_numpy(words[:, :-1]), torch.from_numpy(targets))[:, -1].numpy()
            log_probs[~given] = backoffs[unique[~given] // vocab] + shorter
        children = np.searchsorted(unique, np.arange(contexts + 1) * vocab)
        spec = spec.replace(order=k, grams=(*spec.grams, len(unique)))
        tables[f"backoffs_{k - 1}"] = backoffs.astype(np.float32)
        tables[f"children_{k - 1}"] = children.astype(index_dtype(len(unique)))
        tables[f"words_{k}"] = (unique % vocab).astype(np.int32)
        tables[f"log_probs_{k}"] = log_probs.astype(np.float32)
        for j, wanted in zip(longer, keys, strict=True):
            nodes[j] = np.searchsorted(unique, wanted)
        backoffs, contexts = weights, len(unique)
    return NGram.Module(spec, tables)
