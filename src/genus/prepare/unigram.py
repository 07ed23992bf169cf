"""Train a unigram vocabulary (Kudo 2018, "Subword Regularization", section 3.2) whose result depends on nothing but the text.

The trainer of `tokenizers` walks over hash tables, so that two runs on the same text give different vocabularies; a data set that
is prepared again would not be the same. Here everything is in order:

1. Seeds: the entries of a byte-level BPE `SEEDS` times as large (as in Schmidt et al. 2024, "Tokenization Is More Than
   Compression"), without those that hold a whole character and a part of another; and frequent characters.
2. Cut every word into its most probable pieces, and set the probabilities to what was counted (hard EM). Twice.
3. Take out the pieces whose loss costs the likelihood least, at least a quarter of them; back to 2, until the size is reached.

Cutting is done by the `Unigram` model of `tokenizers`, in Rust.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import chain

import numpy as np
from tokenizers import Tokenizer as Core
from tokenizers import models, pre_tokenizers, trainers

from genus.modalities.byte_bpe import QWEN2, byte_alphabet, byte_level, compiled
from genus.modalities.stream import bytes_of

SEEDS = 4
LONGEST = 16
"""Bytes of the longest piece; SentencePiece's limit is as many characters."""

KEPT = 0.75
COVERAGE = 0.9995
"""Share of the text whose characters are entries for certain (SentencePiece's number), as far as they fill no more than a quarter
of the vocabulary: a character met inside of longer pieces alone should not be cut into bytes elsewhere. With all of them, Chinese
needs more tokens: 0.91 characters per token instead of 0.94, with 2,048 entries for Tang poems."""

MOST_BYTES = 8 * 2**20
"""Of different words, so many bytes are learnt from; what the text holds beyond them adds no new ones."""

UNSEEN = 0.5
"""What a piece that was not counted is taken to have been counted."""

_BATCH = 2**15
_SPELLING = {byte: character for character, byte in byte_alphabet().items()}

Pieces = list[tuple[str, float]]


def train(texts: Iterable[str], size: int) -> Pieces:
    """Pieces in the alphabet of bytes with the logarithms of their probabilities: the 256 bytes, then the most probable first.

    Args:
        texts: what to learn from, read once.
        size: how many pieces; fewer when the text has no more to offer.
    """
    counts: Counter[str] = Counter()
    seeds = _seeds(_counted(texts, counts), SEEDS * size)
    characters = _characters(counts)[: (size - len(_SPELLING)) // 4]
    pieces = _start([*characters, *seeds])
    kept = frozenset(characters)
    words = list(counts)
    times = np.fromiter(counts.values(), dtype=np.int64, count=len(words))
    while len(pieces) > size:
        pieces = _scored(pieces, _usage(pieces, words, times))
        used = _usage(pieces, words, times)
        left = min(int(KEPT * len(pieces)), len(_SPELLING) + int((used > 0).sum()))
        pieces = _pruned(_scored(pieces, used), used, max(size, left), kept)
    for _ in range(2):
        pieces = _scored(pieces, _usage(pieces, words, times))
    return _in_order(pieces)


def _counted(texts: Iterable[str], counts: Counter[str]) -> Iterator[str]:
    """The texts, whose words are counted on the way."""
    split, left = compiled(QWEN2).findall, MOST_BYTES
    for text in texts:
        found = Counter(split(text))
        for word, times in found.items():
            spelt = spell(word)
            if spelt not in counts:
                left -= len(spelt)
            if left >= 0 or spelt in counts:
                counts[spelt] += times
        yield text


def _seeds(texts: Iterable[str], size: int) -> list[str]:
    """The entries of a byte-level BPE that end where characters end, or lie within one."""
    core = Core(models.BPE())
    core.pre_tokenizer = byte_level(QWEN2)
    trainer = trainers.BpeTrainer(
        vocab_size=max(size, 512),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=LONGEST,
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    ordered = sorted(core.get_vocab().items(), key=lambda item: item[1])
    return [piece for piece, _ in ordered if len(piece) > 1 and _whole(bytes_of(piece))]


def _characters(counts: Counter[str]) -> list[str]:
    """The characters of several bytes, the most frequent first, without those that are hardly ever met."""
    found: Counter[str] = Counter()
    for word, times in counts.items():
        if not word.isascii():
            for character in bytes_of(word).decode():
                found[character] += times
    ranked = sorted((-times, character) for character, times in found.items() if character > "\x7f")
    rest = (1 - COVERAGE) * sum(found.values())
    while ranked and rest + ranked[-1][0] >= 0:
        rest += ranked.pop()[0]
    return [spell(character) for _, character in ranked]


def spell(text: str) -> str:
    """A text in the alphabet of bytes."""
    return text.encode().decode("latin-1").translate(_SPELLING)


def _whole(piece: bytes) -> bool:
    """Whether a piece consists of whole characters, or of a part of a single one."""
    try:
        piece.decode()
        return True
    except UnicodeDecodeError:
        return len(piece) < 4 and all(byte >= 0x80 for byte in piece) and sum(byte >= 0xC0 for byte in piece[1:]) == 0


def _start(seeds: Sequence[str]) -> Pieces:
    """All seeds alike, each once, and bytes worse."""
    return [(piece, -2.0) for piece in _SPELLING.values()] + [(piece, -1.0) for piece in dict.fromkeys(seeds)]


def _usage(pieces: Pieces, words: Sequence[str], times: np.ndarray) -> np.ndarray:
    """How often each piece stands in the most probable cut of the words."""
    core = Core(models.Unigram(pieces, unk_id=None, byte_fallback=False))
    used = np.zeros(len(pieces), dtype=np.int64)
    for first in range(0, len(words), _BATCH):
        cuts = [encoding.ids for encoding in core.encode_batch_fast(words[first : first + _BATCH])]
        lengths = np.fromiter(map(len, cuts), dtype=np.int64, count=len(cuts))
        ids = np.fromiter(chain.from_iterable(cuts), dtype=np.int64, count=int(lengths.sum()))
        np.add.at(used, ids, np.repeat(times[first : first + _BATCH], lengths))
    return used


def _scored(pieces: Pieces, used: np.ndarray) -> Pieces:
    """The pieces with the probabilities counted."""
    total = math.log(max(1.0, float(used.sum())))
    return [
        (piece, round(math.log(max(count, UNSEEN)) - total, 6)) for (piece, _), count in zip(pieces, used.tolist(), strict=True)
    ]


def _pruned(pieces: Pieces, used: np.ndarray, size: int, kept: Set[str] = frozenset()) -> Pieces:
    """The bytes, what is `kept`, and the pieces that would cost most if they had to be written with others."""
    scores = dict(pieces)
    counts = {piece: max(float(count), UNSEEN) for (piece, _), count in zip(pieces, used.tolist(), strict=True)}
    total = math.fsum(counts.values())
    losses: list[tuple[float, int]] = []
    for place, (piece, _) in enumerate(pieces):
        if len(piece) == 1 or piece in kept:
            losses.append((-math.inf, place))
            continue
        others = _otherwise(piece, scores)
        count = counts[piece]
        rest = math.log(total + count * (len(others) - 1))
        change = math.log(count / total) - sum(math.log(counts[other] + count) - rest for other in others)
        losses.append((-count * change, place))
    return [pieces[place] for place in sorted(place for _, place in sorted(losses)[:size])]


def _otherwise(piece: str, scores: dict[str, float]) -> list[str]:
    """The most probable way to write a piece with others."""
    end = len(piece)
    best = [0.0] + [-math.inf] * end
    came = [0] * (end + 1)
    for stop in range(1, end + 1):
        for start in range(1 if stop == end else 0, stop):
            score = scores.get(piece[start:stop])
            if score is not None and best[start] + score > best[stop]:
                best[stop], came[stop] = best[start] + score, start
    others = []
    while end:
        others.append(piece[came[end] : end])
        end = came[end]
    return others[::-1]


def _in_order(pieces: Pieces) -> Pieces:
    bytes_first = [each for each in pieces if len(each[0]) == 1]
    return bytes_first + sorted((each for each in pieces if len(each[0]) > 1), key=lambda each: (-each[1], each[0]))
