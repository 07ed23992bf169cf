"""Which documents are train, validation and test, and which are repeats.

The rule, by the number of documents that are ours to split:

* many (10 / smallest fraction or more; 200 for 5 %): a document's hash decides, so that adding documents moves no other;
* fewer: documents are ranked by hash and the exact share is taken, so that no split is empty by chance;
* fewer than 20: every document is cut by position: its last characters are held out (validation, then test), as nanoGPT does.

Ready-made splits are kept. Exact repeats (128-bit hash of the text) of a training document, and training documents that also
stand in a ready-made validation or test split, are dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genus.prepare.dice import scrambled

TRAIN, VALIDATION, TEST, CUT, REPEAT = range(5)
"""Verdict on a document. CUT: parts of it go to different splits."""

FEW = 20
RANKED_BELOW = 10


@dataclass(frozen=True)
class Fractions:
    """Shares of documents to hold out.

    Raises:
        ValueError: negative, or leaving nothing to train on.
    """

    validation: float
    test: float

    def __post_init__(self) -> None:
        if self.validation < 0 or self.test < 0 or self.validation + self.test >= 1:
            raise ValueError(
                f"--validation {self.validation} --test {self.test}: "
                "give shares from 0 up that leave something to train on, such as 0.05"
            )


@dataclass(frozen=True)
class Documents:
    """What is known of every document, in order of reading.

    Attributes:
        digests: (n, 2) uint64, 128-bit hash of the text.
        characters: (n,) int64.
        starts: (n,) bool, false for later pieces of a large file.
        given: (n,) int8, the ready-made split, or -1 for ours to split.
    """

    digests: np.ndarray
    characters: np.ndarray
    starts: np.ndarray
    given: np.ndarray


@dataclass(frozen=True)
class Assignment:
    """What was decided.

    Attributes:
        verdicts: (n,) uint8.
        cuts: for documents under CUT, (end of train, end of validation) in characters.
        rule: how, in words.
    """

    verdicts: np.ndarray
    cuts: dict[int, tuple[int, int]]
    rule: str


def assign(
    documents: Documents, fractions: Fractions, drop_repeats: bool = True, whole: bool = False, seed: int = 0
) -> Assignment:
    """Decide on every document. `whole`: none is cut, however few they are (pairs). `seed`: other documents are held out."""
    verdicts = np.where(documents.given >= 0, documents.given, TRAIN).astype(np.uint8)
    repeats = find_repeats(documents) if drop_repeats else np.zeros(len(verdicts), dtype=bool)
    verdicts[repeats] = REPEAT
    ours = np.flatnonzero((documents.given < 0) & ~repeats)
    ready = "ready-made splits kept" if np.any(documents.given >= 0) else ""
    wanted = [share for share in (fractions.validation, fractions.test) if share > 0]
    if not wanted or not len(ours):
        return Assignment(verdicts, {}, ready or "nothing held out")
    texts = int(documents.starts[ours].sum())
    if texts < FEW and not whole:
        cuts = _cut_tails(documents, ours, fractions)
        verdicts[ours] = CUT
        held = (
            f"{_percent(sum(wanted))} of each of {texts} documents"
            if texts > 1
            else f"{_percent(sum(wanted))} of the one document"
        )
        return Assignment(verdicts, cuts, _join(ready, f"by position: the last {held} held out (fewer than {FEW} documents)"))
    if len(ours) * min(wanted) < RANKED_BELOW:
        verdicts[ours] = _by_rank(_thrown(documents.digests[ours], seed), fractions)
        return Assignment(verdicts, {}, _join(ready, "by rank of document hash (exact shares, as documents are few)"))
    verdicts[ours] = _by_hash(_thrown(documents.digests[ours], seed), fractions)
    return Assignment(verdicts, {}, _join(ready, "by document hash"))


def find_repeats(documents: Documents) -> np.ndarray:
    """True for every training document whose text came before, or stands in a ready-made validation or test split."""
    kept_as_is = documents.given > TRAIN
    high, low = documents.digests[:, 0], documents.digests[:, 1]
    order = np.lexsort((~kept_as_is, low, high))  # stable: the first of equals stays first
    same = np.zeros(len(order), dtype=bool)
    same[1:] = (high[order[1:]] == high[order[:-1]]) & (low[order[1:]] == low[order[:-1]])
    repeats = np.zeros(len(order), dtype=bool)
    repeats[order[same]] = True
    return repeats & ~kept_as_is


def _thrown(digests: np.ndarray, seed: int) -> np.ndarray:
    """The hashes as dice; seed 0 takes them as they are."""
    return digests if seed == 0 else np.stack([scrambled(digests[:, 0], seed), digests[:, 1]], axis=1)


def _by_hash(digests: np.ndarray, fractions: Fractions) -> np.ndarray:
    place = digests[:, 0].astype(np.float64) / 2.0**64
    verdicts = np.full(len(digests), TRAIN, dtype=np.uint8)
    verdicts[place < fractions.validation + fractions.test] = TEST
    verdicts[place < fractions.validation] = VALIDATION
    return verdicts


def _by_rank(digests: np.ndarray, fractions: Fractions) -> np.ndarray:
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    validation, test = (max(1, round(share * len(order))) if share > 0 else 0 for share in (fractions.validation, fractions.test))
    verdicts = np.full(len(order), TRAIN, dtype=np.uint8)
    verdicts[order[:validation]] = VALIDATION
    verdicts[order[validation : validation + test]] = TEST
    return verdicts


def _cut_tails(documents: Documents, ours: np.ndarray, fractions: Fractions) -> dict[int, tuple[int, int]]:
    """Ends of train and validation inside every piece; pieces of one large file are cut as the one text they are."""
    cuts: dict[int, tuple[int, int]] = {}
    groups: list[list[int]] = []
    for index in ours.tolist():
        if documents.starts[index] or not groups:
            groups.append([])
        groups[-1].append(index)
    for group in groups:
        total = sum(int(documents.characters[i]) for i in group)
        train = _share(total, 1 - fractions.validation - fractions.test)
        held = _share(total, 1 - fractions.test)
        before = 0
        for i in group:
            size = int(documents.characters[i])
            cuts[i] = (min(size, max(0, train - before)), min(size, max(0, held - before)))
            before += size
    return cuts


def _share(total: int, share: float) -> int:
    return int(round(total * share, 3))  # 1 - 0.05 - 0.05 is a little less than 0.9


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
