"""Mixtures: which share of the training text each group of sources gets, and how often each of its documents is therefore stored.

    --source web=crawl/@0.9 --source poems=poems.txt@0.1          or in YAML (`--config`):

    sources:
      - {name: web, path: crawl/, weight: 0.7}
      - {name: poems, path: poems.txt, weight: 0.1, epochs: 4}
      - {name: notes, path: notes/, cap: 20MB}                     no weight: taken whole

A weight is a share of the training text in bytes, after cleaning, which comes close to its share of the tokens. A source is
stored at most `epochs` times (fractions too), and never gives more than its `cap`. When every source has a weight, the mixture is
as large as these limits allow with all shares exact. Beside sources without a weight, which are taken whole, the total follows
from theirs: with weights that sum to s, they are 1 - s of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genus.prepare.dice import scrambled
from genus.spec import nearest

SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


@dataclass(frozen=True)
class Share:
    """One group of sources.

    Attributes:
        name, path: what it is called, and what is read (a file, folder or glob).
        weight: share of the training text; None = all of it is taken.
        epochs: how many times it may be stored at most; without a weight, how many times it is.
        cap: bytes of training text it gives at most.

    Raises:
        ValueError: a number out of range.
    """

    name: str
    path: str
    weight: float | None = None
    epochs: float = 1.0
    cap: int | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise ValueError(f"source {self.name}: weight {self.weight}: give a share above 0, such as 0.1, or leave it out")
        if not 0 < self.epochs < math.inf:
            raise ValueError(f"source {self.name}: epochs {self.epochs}: give how often it may be stored, such as 4")
        if self.cap is not None and self.cap < 1:
            raise ValueError(f"source {self.name}: cap {self.cap}: give a size, such as 20MB")


def shares(entries: Sequence[str | Mapping[str, Any]]) -> tuple[Share, ...]:
    """The groups of a mixture.

    Args:
        entries: "NAME=PATH@WEIGHT", where "@WEIGHT" may be left out and an @ before anything but a number belongs to the path; or
            {name, path, weight, epochs, cap}, of which only the path is needed.

    Raises:
        ValueError: what is wrong, with the name of the source.
    """
    found = [_from_word(entry) if isinstance(entry, str) else _from_mapping(entry) for entry in entries]
    names = [share.name for share in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two sources are called {name}: give each a name of its own")
    total = sum(share.weight for share in found if share.weight is not None)
    whole = [share.name for share in found if share.weight is None]
    if total >= 1 and whole:
        raise ValueError(
            f"the weights sum to {total:g}, so nothing is left for the sources without one ({', '.join(whole)}): "
            "give all of them a weight, or weights that sum to less than 1"
        )
    return tuple(found)


def _from_word(word: str) -> Share:
    name, equals, path = word.partition("=")
    if not equals or not name or not path:
        raise ValueError(f"--source {word}: write NAME=PATH@WEIGHT, such as poems=poems.txt@0.1")
    before, _, last = path.rpartition("@")
    try:
        weight = float(last) if before else None
    except ValueError:
        weight = None
    return Share(name, path if weight is None else before, weight)


def _from_mapping(entry: Any) -> Share:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
        raise ValueError(f"sources: {entry!r}: every source has a path, as in {{name: poems, path: poems.txt, weight: 0.1}}")
    known = ("name", "path", "weight", "epochs", "cap")
    for key in entry:
        if key not in known:
            raise ValueError(f"sources: {entry['path']}: no field {key!r}{nearest(str(key), known)}")
    name = str(entry.get("name", entry["path"]))
    numbers = {key: _number(name, key, entry[key]) for key in ("weight", "epochs") if entry.get(key) is not None}
    return Share(name, entry["path"], cap=None if entry.get("cap") is None else size(name, entry["cap"]), **numbers)


def size(name: str, written: Any) -> int:
    """Bytes of "20MB", "1.5 GB" or a number."""
    found = re.fullmatch(r"([0-9.]+)\s*([kmgt]?)b?", str(written).strip().lower().replace("_", ""))
    try:
        return round(float(found[1]) * SIZES[found[2]]) if found else int(written)
    except (TypeError, ValueError) as error:
        raise ValueError(f"source {name}: cap {written!r}: give a size, such as 20MB") from error


def _number(name: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"source {name}: {key} {value!r}: give a number")
    return float(value)


@dataclass(frozen=True)
class Mix:
    """How often every group is stored.

    Attributes:
        times: (groups,) times that a group's training text is stored, on average over its documents.
        remarks: which group could not have its share, or sets the size of all.
    """

    times: list[float]
    remarks: list[str]


def mix(shares: Sequence[Share], sizes: Sequence[int]) -> Mix:
    """Decide how often every group is stored.

    Args:
        sizes: bytes of training text that every group has.

    Raises:
        ValueError: a group with a weight has no text.
    """
    for share, held in zip(shares, sizes, strict=True):
        if share.weight is not None and not held:
            raise ValueError(
                f"source {share.name} has no training text that could be {share.weight:g} of the mixture: look at rejected/"
            )
    limits = [min(share.epochs * held, share.cap or math.inf) for share, held in zip(shares, sizes, strict=True)]
    remarks = [
        f"mixture: {share.name} has no training text that did not stand in another source or was dropped"
        for share, held in zip(shares, sizes, strict=True)
        if not held
    ]
    asked = [share.weight or 0.0 for share in shares]
    whole = sum(limit for share, limit in zip(shares, limits, strict=True) if share.weight is None)
    if whole:
        total = whole / (1 - sum(asked))
        wanted = [limit if not ask else min(limit, ask * total) for ask, limit in zip(asked, limits, strict=True)]
        for share, ask, limit in zip(shares, asked, limits, strict=True):
            if ask * total > limit:
                remarks.append(f"mixture: {share.name} has text for {limit / total:.1%} instead of {ask:.1%}{_limited_by(share)}")
    elif not any(asked):
        wanted = limits
    else:
        parts = [ask / sum(asked) for ask in asked]
        total, least = min((limit / part, i) for i, (limit, part) in enumerate(zip(limits, parts, strict=True)) if part)
        wanted = [part * total for part in parts]
        if any(limit > 1.01 * want for limit, want in zip(limits, wanted, strict=True)):
            remarks.append(f"mixture: {shares[least].name} sets the size of all{_limited_by(shares[least])}")
    return Mix([want / held if held else 0.0 for want, held in zip(wanted, sizes, strict=True)], remarks)


def _limited_by(share: Share) -> str:
    if share.cap is not None:
        return f" (epochs {share.epochs:g}, cap {share.cap:,} bytes)"
    return f" (epochs {share.epochs:g}; more of them would allow more)"


def copies(times: float, sizes: np.ndarray, digests: np.ndarray, seed: int = 0) -> np.ndarray:
    """How often every document of a group is stored: the whole part of `times`, and those that come first by hash once more, as
    many as the bytes ask for.

    Args:
        sizes: (n,) bytes. digests: (n, 2) uint64.

    Returns:
        (n,) int64.
    """
    whole = math.floor(times)
    found = np.full(len(sizes), whole, dtype=np.int64)
    rest = (times - whole) * float(sizes.sum())
    order = np.lexsort((digests[:, 0], scrambled(digests[:, 1], seed)))
    middle = np.cumsum(sizes[order]) - sizes[order] / 2  # a document is in when half of it fits
    once_more = order[middle <= rest]
    found[once_more if len(once_more) or whole else order[:1]] += 1  # of a source that has a share, something is there
    return found
