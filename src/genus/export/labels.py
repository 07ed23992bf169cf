"""What the outputs of a task's head stand for, as config.json says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genus.export.families.form import ANSWERS, SEQUENCE, TOKENS, labelled, numbered, outputs_of
from genus.parts.model import Model
from genus.parts.task_head import TaskHead

OF_A_TEXT = ("single_label_classification", "multi_label_classification", "regression")  # transformers' `problem_type`
PROBLEMS = (*OF_A_TEXT, "token_classification", "question_answering")


@dataclass(frozen=True)
class Labels:
    """Names of the outputs, in order, none where nobody named them; and one of PROBLEMS, None for a model without a task."""

    names: tuple[str, ...] = ()
    problem: str | None = None


def settle(spec: Model, names: Sequence[str], problem: str | None) -> Labels:
    """Labels for a model's head; the problem, where it is not told, is the usual one for that head.

    Raises:
        ValueError: the model has no head for a task, or one with another number of outputs, or for another problem.
    """
    head = spec.head
    if not isinstance(head, TaskHead):
        if names or problem:
            raise ValueError("labels and a problem belong to a model with the head of a task; this one has none")
        return Labels()
    if names and (len(names) != head.outputs or len(set(names)) != len(names)):
        raise ValueError(f"the head has {head.outputs} outputs, which need as many different labels, not {list(names)}")
    if problem is None:
        whole = "regression" if head.outputs == 1 else "single_label_classification"
        problem = "token_classification" if head.pool is None else whole
    if problem not in PROBLEMS or (problem in OF_A_TEXT) == (head.pool is None):
        usual = OF_A_TEXT if head.pool else PROBLEMS[len(OF_A_TEXT) :]
        raise ValueError(f"problem {problem!r} does not fit the model's head; choose one of: {', '.join(usual)}")
    return Labels(tuple(names), problem)


def keys(labels: Labels) -> dict[str, Any]:
    """What they add to config.json."""
    named = labelled(list(labels.names)) if labels.names and labels.problem != "question_answering" else {}
    return named | ({"problem_type": labels.problem} if labels.problem in OF_A_TEXT else {})


def read(config: Mapping[str, Any]) -> Labels:
    """The labels of a model folder, from its config.json."""
    name = str((config.get("architectures") or [""])[0])
    outputs = outputs_of(config)
    if name.endswith(ANSWERS):
        return Labels((), "question_answering")
    if not name.endswith((SEQUENCE, TOKENS)):
        return Labels()
    usual = "regression" if outputs == 1 else "single_label_classification"
    problem = (config.get("problem_type") or usual) if name.endswith(SEQUENCE) else "token_classification"
    names = config.get("id2label") or {}
    told = tuple(str(names[i]) for i in sorted(names, key=int)) if names != numbered(outputs)["id2label"] else ()
    return Labels(told, problem)
