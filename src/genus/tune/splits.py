"""Which rows are learnt from, which decide when to stop, and which only judge; and rows that would be on both sides."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from genus.prepare.records import Record
from genus.tune.task import Task

TEST, VALID = 0.2, 0.15  # shares of the rows, where no test rows and no validation rows were given


@dataclass(frozen=True)
class Split:
    """Row numbers. `name`: "seed 0", "seed 0, fold 2". train and valid count within the labelled rows; test as `tested` says."""

    name: str
    train: tuple[int, ...]
    valid: tuple[int, ...]
    test: tuple[int, ...]
    seed: int = 0


@dataclass(frozen=True)
class Leakage:
    """Rows that stand in more than one place.

    Attributes:
        repeated: rows of the training set that repeat an earlier one. contradicting: those of them with another label.
        shared: rows of the training set whose text is in the test or validation set too, by the name of that set.
        drop: numbers of the training rows to leave out: those that are shared, since the test copy wins.
    """

    repeated: int
    contradicting: int
    shared: dict[str, int]
    drop: frozenset[int]


def leakage(task: Task, train: Sequence[Record], held: dict[str, Sequence[Record]]) -> Leakage:
    """Look for training rows whose texts are those of a held-out row (case and spaces do not count).

    Args:
        held: sets that judge, by name.
    """
    known: dict[bytes, str] = {}
    for name, rows in held.items():
        known.update((_key(task, row), name) for row in rows)
    shared: dict[str, int] = dict.fromkeys(held, 0)
    seen: dict[bytes, str] = {}
    drop, repeated, contradicting = set(), 0, 0
    for number, row in enumerate(train):
        key = _key(task, row)
        if key in known:
            shared[known[key]] += 1
            drop.add(number)
        label = repr(task.target(row))
        if key in seen:
            repeated += 1
            contradicting += seen[key] != label
        seen.setdefault(key, label)
    return Leakage(repeated, contradicting, {k: v for k, v in shared.items() if v}, frozenset(drop))


def groups(task: Task, rows: Sequence[Record]) -> list[int]:
    """A number for each row, the same for rows with the same texts: they must not be parted by a split."""
    seen: dict[bytes, int] = {}
    return [seen.setdefault(_key(task, row), len(seen)) for row in rows]


def splits(
    task: Task,
    rows: Sequence[Record],
    repeats: int,
    folds: int = 0,
    valid: bool = True,
    test: bool = True,
    seed: int = 0,
) -> list[Split]:
    """Repeated splits, or k folds that each judge once, for each of `repeats` seeds. Classes keep their proportion.

    Args:
        valid, test: whether these rows are to be cut from `rows`, or were given and are not here.

    Raises:
        ValueError: too few rows.
    """
    strata = [task.stratum(row) for row in rows]
    same = groups(task, rows)
    found = []
    for repeat in range(seed, seed + repeats):
        rng = random.Random(repeat * 1_000_003 + 17)
        if folds:
            order = _shuffled(strata, same, rng)
            if len(order) < folds:
                raise ValueError(f"{folds} folds need at least {folds} different rows, and there are {len(order)}")
            for fold in range(folds):
                held = _members(order[fold::folds])
                rest = [each for i, each in enumerate(order) if i % folds != fold]
                stop, learn = _cut(rest, VALID, rng, strata) if valid else ([], rest)
                name = f"seed {repeat}, fold {fold + 1} of {folds}"
                found.append(Split(name, _members(learn), _members(stop), held, repeat))
            continue
        order = _shuffled(strata, same, rng)
        judge, rest = _cut(order, TEST, rng, strata) if test else ([], order)
        stop, learn = _cut(rest, VALID / (1 - TEST if test else 1), rng, strata) if valid else ([], rest)
        found.append(Split(f"seed {repeat}", _members(learn), _members(stop), _members(judge), repeat))
    return found


Group = tuple[int, ...]


def _shuffled(strata: Sequence[str | None], same: Sequence[int], rng: random.Random) -> list[Group]:
    """Groups of equal texts, class after class, in random order within a class: dealt out in turn they keep the proportions."""
    members: dict[int, list[int]] = defaultdict(list)
    for number, group in enumerate(same):
        members[group].append(number)
    kinds: dict[str | None, list[Group]] = defaultdict(list)
    for each in members.values():
        kinds[strata[each[0]]].append(tuple(each))
    for kind in sorted(kinds, key=str):
        rng.shuffle(kinds[kind])
    return [each for kind in sorted(kinds, key=str) for each in kinds[kind]]


def _cut(order: list[Group], share: float, rng: random.Random, strata: Sequence[str | None]) -> tuple[list[Group], list[Group]]:
    """A share of the groups, of each class in proportion and at least one, and the rest, where a class keeps at least one."""
    kinds: dict[str | None, list[Group]] = defaultdict(list)
    for each in order:
        kinds[strata[each[0]]].append(each)
    held: set[Group] = set()
    for own in kinds.values():
        wish = share * len(own)
        count = int(wish) + (rng.random() < wish - int(wish))
        held.update(own[: min(max(1, count), len(own) - 1)])
    return [g for g in order if g in held], [g for g in order if g not in held]


def _members(order: Sequence[Group]) -> tuple[int, ...]:
    return tuple(number for group in order for number in group)


def _key(task: Task, row: Record) -> bytes:
    text = "\0".join(" ".join(part.split()).casefold() for part in task.texts(row))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).digest()
