"""Questions: answers are found again in windows, and scored as SQuAD does, Chinese by characters."""

from __future__ import annotations

import numpy as np
import pytest

from genus.prepare.tokenizer import build
from genus.tune.tasks.questions import NOWHERE, QuestionAnswering, normal, overlap

TEXT = "the quick brown fox jumps over the lazy dog. "
CONTEXT = TEXT * 5 + "Anna lives in Rome. " + TEXT * 5
ROW = {
    "context": CONTEXT,
    "question": "Where does Anna live?",
    "answers": {"text": ["Rome"], "answer_start": [CONTEXT.index("Rome")]},
}
TOKENIZER = build("bpe", [CONTEXT * 4], 1000, vocab=330).extended(("cls", "sep"))
TASK = QuestionAnswering()


def _told(row: dict, limit: int, task: QuestionAnswering = TASK) -> list:
    """What a model that knows the answer would give."""
    examples = task.examples([row], TOKENIZER, limit)
    outputs = []
    for e in examples:
        logits = np.full((len(e.ids), 2), -5.0, np.float32)
        logits[0] = 0.0
        if e.label != NOWHERE:
            logits[e.label[0], 0] = logits[e.label[1], 1] = 9.0
        outputs.append(logits)
    return task.join([row], examples, outputs, TOKENIZER)


@pytest.mark.parametrize("limit", [48, 64, 512])
def test_the_answer_is_found_again(limit: int) -> None:
    examples = TASK.examples([ROW], TOKENIZER, limit)
    assert (len(examples) > 1) == (limit < 512) and any(e.label != NOWHERE for e in examples)
    (found,) = _told(ROW, limit)
    assert found[:2] == ("Rome", CONTEXT.index("Rome")) and found[2] > 0.9
    assert TASK.score([found], [ROW]) == {"exact": 1.0, "f1": 1.0}
    assert TASK.render(found) == {"prediction": "Rome", "start": CONTEXT.index("Rome"), "probability": round(found[2], 4)}


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["Rome"], "answer_start": [3]},  # a wrong place
        ["Rome"],
        "Rome",
        [{"text": "Rome", "answer_start": CONTEXT.index("Rome")}],
    ],
)
def test_answers_in_every_usual_form(answers: object) -> None:
    row = ROW | {"answers": answers}
    assert TASK.target(row) == ["Rome"] and TASK.problem(row) is None
    assert _told(row, 64)[0][0] == "Rome"


def test_a_question_without_an_answer() -> None:
    row = ROW | {"answers": {"text": [], "answer_start": []}}
    task = QuestionAnswering(some_without=True)
    assert task.problem(row) is None and task.target(row) == []
    (found,) = _told(row, 64, task)
    assert found[0] == "" and task.score([found], [row])["exact"] == 1.0 and task.render(found)["start"] == -1
    assert TASK.problem(ROW | {"answers": ""}) == "empty answers"
    assert TASK.problem(ROW | {"answers": ["Paris"]}) == "the answer does not stand in the context"


def test_scores() -> None:
    assert normal("The  Cat, sat!") == "cat sat"
    assert overlap("the cat sat", "a cat") == pytest.approx(2 / 3)
    assert overlap("北京市", "北京") == pytest.approx(0.8) and overlap("在北京。", "在北京") == 1.0
    assert overlap("", "") == 1.0 and overlap("", "x") == 0.0
