"""Every task: which one a file of labels asks for is found out in this order."""

from __future__ import annotations

from genus.prepare.records import Records
from genus.spec import nearest
from genus.tune.task import Task, Wishes, missing
from genus.tune.tasks.classification import Classification
from genus.tune.tasks.conversation import Conversation
from genus.tune.tasks.questions import QuestionAnswering
from genus.tune.tasks.regression import Regression
from genus.tune.tasks.sequence import SequenceToSequence
from genus.tune.tasks.tagging import Tagging

TASKS: tuple[type[Task], ...] = (
    Conversation,
    SequenceToSequence,
    QuestionAnswering,
    Tagging,
    Regression,
    Classification,
)
"""The more telling columns first: a file that has them would also do for a simpler task."""


def infer(records: Records, wishes: Wishes) -> Task:
    """The task that the user names, or the first whose columns are there.

    Raises:
        ValueError: there is no such task, or none fits; the message lists the columns and what each task needs.
    """
    for flag, name in (("--text", wishes.text), ("--pair", wishes.pair), ("--label", wishes.label)):
        if name is not None and name not in records.columns:
            raise missing(records, f"column {name!r}", flag, name)
    chosen = [t for t in TASKS if wishes.task in (None, t.name)]
    if not chosen:
        raise ValueError(f"there is no task {wishes.task!r}{nearest(wishes.task or '', [t.name for t in TASKS])}")
    for task in chosen:
        found = task.infer(records, wishes)
        if found is not None:
            return found
    raise ValueError(
        f"cannot tell what the labels of {records.name} ask for; its columns are {', '.join(records.columns) or 'none'}. "
        f"Name the columns with --text and --label (and --pair), or the task with --task ({', '.join(t.name for t in TASKS)})"
    )
