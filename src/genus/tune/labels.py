"""The labelled rows: read, told what they ask for, and looked over for what is wrong with them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genus.prepare.items import excerpt
from genus.prepare.records import Record, Records, Rejected, read, read_splits
from genus.tune.counted import counted
from genus.tune.options import TuneOptions
from genus.tune.splits import Leakage, leakage
from genus.tune.task import Say, Task, Wishes
from genus.tune.tasks import infer

NAMES = 12  # labels that are listed
REASONS = 5


@dataclass
class Labels:
    """What is learnt from and what judges.

    Attributes:
        task: what is asked for. train, validation, test: usable rows; None = not given. places: where each training row stands.
        rejected: rows that cannot be used, of all sets. remarks: what the user should know. leakage: rows in more than one set.
    """

    task: Task
    train: Sequence[Record]
    places: Sequence[str]
    validation: Sequence[Record] | None = None
    test: Sequence[Record] | None = None
    test_places: Sequence[str] = ()
    rejected: list[Rejected] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    leakage: Leakage = Leakage(0, 0, {}, frozenset())

    @property
    def fingerprint(self) -> str:
        """Hash of every row's texts and labels, to notice that a file has changed."""
        seen = hashlib.sha256()
        for rows in (self.train, self.validation or (), self.test or ()):
            for row in rows:
                seen.update(json.dumps([self.task.texts(row), self.task.target(row)], ensure_ascii=True, default=str).encode())
            seen.update(b"\n")
        return seen.hexdigest()[:32]


def read_labels(path: str | Path, options: TuneOptions, say: Say) -> Labels:
    """The labelled rows of a file or a datasets folder, and of the files that judge.

    Raises:
        ValueError: nothing there, a missing column, or nothing to learn from; the message says what to do.
    """
    sets = read_splits(path)
    for name, given in (("validation", options.validation), ("test", options.test)):
        if given is not None:
            sets[name] = read(given)
    told = sets["train"]
    if not told.columns:
        raise ValueError(f"{path} holds no row that could be read{_first(told.rejected)}")
    task = infer(told, options.wishes)
    say(f"labels: {task.because(told)}")
    labels = Labels(task, [], [], remarks=[remark for records in sets.values() for remark in records.remarks])
    sets = {name: _same_columns(task, records, name, labels) for name, records in sets.items()}
    kept = {name: _usable(task, records, labels) for name, records in sets.items()}
    if not len(kept["train"][0]):
        raise ValueError(f"no row of {path} can be learnt from{_first(labels.rejected)}")
    labels.train, labels.places = kept["train"]
    labels.validation = kept["validation"][0] if "validation" in kept else None
    labels.test, labels.test_places = kept.get("test", (None, ()))
    for name in ("validation", "test"):
        if name in kept and not len(kept[name][0]):
            raise ValueError(f"no row of the {name} set {sets[name].name} can be used{_first(labels.rejected)}")
    _part(labels)
    labels.remarks += _classes(task, labels.train)
    for remark in labels.remarks:
        say(f"labels: {remark}")
    return labels


def write_rejected(path: Path, rejected: Iterable[Rejected]) -> None:
    """One line of JSON for each row that was left out."""
    with open(path, "w", encoding="utf-8") as file:
        for each in rejected:
            file.write(json.dumps(each._asdict(), ensure_ascii=False, default=str) + "\n")


def _same_columns(task: Task, records: Records, name: str, labels: Labels) -> Records:
    """A set that judges, under the names that the training set's columns have.

    Raises:
        ValueError: a column is not there, under no usual name either.
    """
    lacking = [c for c in task.columns if c not in records.columns]
    if not lacking or not records.columns:
        return records
    try:
        other = type(task).infer(records, Wishes())
    except ValueError:
        other = None
    if other is None or len(other.columns) != len(task.columns):
        raise ValueError(
            f"the {name} set {records.name} has no column {lacking[0]!r}; its columns are {', '.join(records.columns)}. "
            "Give them the names that they have in the labels"
        )
    names = {own: wanted for own, wanted in zip(other.columns, task.columns, strict=True) if own != wanted}
    labels.remarks += [f"the {name} set calls the column {wanted!r} {own!r}" for own, wanted in names.items()]
    return records.renamed(names)


def _usable(task: Task, records: Records, labels: Labels) -> tuple[Sequence[Record], Sequence[str]]:
    """The rows without a problem; the others are counted and kept for `rejected.jsonl`."""
    whole = records.rejected
    wrong: dict[int, str] = {}
    for i, row in enumerate(records.rows):
        problem = task.problem(row)
        if problem is not None:
            wrong[i] = problem
    labels.rejected += whole
    for i, problem in wrong.items():
        row = records.rows[i]
        labels.rejected.append(
            Rejected(records.places[i], problem, excerpt(json.dumps(row, ensure_ascii=False, default=str)), row)
        )
    reasons = Counter([each.reason for each in whole] + list(wrong.values()))
    if reasons:
        total = len(records) + len(whole)
        listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common(REASONS))
        more = f" and {len(reasons) - REASONS} more reasons" if len(reasons) > REASONS else ""
        labels.remarks.append(
            f"left out: {sum(reasons.values()):,} of {counted(total, 'row')} of {records.name} ({listed}{more}); "
            "each is in rejected.jsonl with its place"
        )
    if not wrong:
        return records.rows, records.places
    kept = [i for i in range(len(records)) if i not in wrong]
    return records.select(kept), [records.places[i] for i in kept]


def _part(labels: Labels) -> None:
    """Take rows out that stand in a set that judges, and say what else repeats."""
    if labels.validation is not None and labels.test is not None:
        both = leakage(labels.task, labels.validation, {"test": labels.test})
        if both.drop:
            labels.validation = [row for i, row in enumerate(labels.validation) if i not in both.drop]
            labels.remarks.append(
                f"leakage: {counted(len(both.drop), 'row')} of the validation set, with the same text in the test set too; "
                "only the test copy is kept"
            )
        if not labels.validation:
            raise ValueError(
                "every row of the validation set stands in the test set too; give other rows, or leave out --validation"
            )
    held = {name: rows for name in ("test", "validation") if (rows := getattr(labels, name)) is not None}
    found = leakage(labels.task, labels.train, held)
    labels.leakage = found
    for name, count in found.shared.items():
        labels.remarks.append(
            f"leakage: {counted(count, 'row')} to learn from, with the same text in the {name} set too; "
            f"only the {name} copy is kept"
        )
    if found.repeated:
        other = f", {found.contradicting:,} of them with another label" if found.contradicting else ""
        labels.remarks.append(
            f"{counted(found.repeated, 'row')} with the text of an earlier one{other}; equal texts are on one side of every split"
        )
    if found.drop:
        kept = [i for i in range(len(labels.train)) if i not in found.drop]
        if not kept:
            raise ValueError("every row to learn from stands in a set that judges too; give other rows to learn from")
        labels.train, labels.places = [labels.train[i] for i in kept], [labels.places[i] for i in kept]


def _classes(task: Task, rows: Sequence[Record]) -> list[str]:
    """How often each class occurs, how unequal that is, and which are too rare to be judged."""
    counts = Counter(stratum for row in rows if (stratum := task.stratum(row)) is not None)
    if not counts:
        return []
    total = sum(counts.values())
    common = counts.most_common()
    listed = ", ".join(f"{label} {count:,} ({100 * count / total:.0f} %)" for label, count in common[:NAMES])
    more = f" and {len(common) - NAMES} more" if len(common) > NAMES else ""
    said = [f"{counted(len(common), 'class', 'classes')} in {counted(total, 'row')}: {listed}{more}"]
    most, least = common[0], common[-1]
    if most[1] >= 3 * least[1]:
        said.append(
            f"the classes are unequal: {most[0]!r} is {most[1] / least[1]:.0f} times as frequent as {least[0]!r}; "
            f"always saying {most[0]!r} is right in {100 * most[1] / total:.0f} %, so look at macro_f1 too"
        )
    once = [label for label, count in common if count == 1]
    if once:
        names = ", ".join(map(repr, once[:NAMES])) + (" ..." if len(once) > NAMES else "")
        said.append(
            f"{len(once):,} {'class has' if len(once) == 1 else 'classes have'} a single row ({names}): it is learnt from, "
            "and no split can judge it; label a few more"
        )
    return said


def _first(rejected: Sequence[Rejected]) -> str:
    if not rejected:
        return ": it is empty"
    return f" ({len(rejected):,} left out; the first, {rejected[0].place}: {rejected[0].reason})"


def describe(labels: Labels, path: str | Path) -> dict[str, Any]:
    """What `run.json` says about the labels."""
    return {
        "path": str(path),
        "fingerprint": labels.fingerprint,
        "rows": len(labels.train),
        "validation": None if labels.validation is None else len(labels.validation),
        "test": None if labels.test is None else len(labels.test),
        "rejected": len(labels.rejected),
        "remarks": labels.remarks,
    }
