"""Extractive question answering: the answer is a stretch of the context."""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from genus.modalities.framing import Window, windows
from genus.objectives.batch import Batch
from genus.objectives.labelled import Extract, outputs
from genus.parts.model import Model
from genus.parts.task_head import TaskHead
from genus.prepare.records import Record, Records
from genus.tune.reading import token_head
from genus.tune.task import Example, Task, Wishes, column, empty, missing

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

CONTEXT = ("context", "passage", "paragraph", "document")
QUESTION = ("question", "query")
ANSWER = ("answers", "answer", "answer_text")
START = ("answer_start", "start")
NOWHERE = (0, 0)  # the answer of a window that does not hold it: the first token
BEST = 20  # beginnings and ends that are tried together
LONGEST = 30  # tokens of an answer (Devlin et al. 2019, their code)
LOOK = 50  # rows that are looked at to see whether answers stand in their contexts
ARTICLES = {"a", "an", "the"}


@dataclass(frozen=True)
class QuestionAnswering(Task):
    """Where in a context the answer to a question stands. A context too long for the model is read in overlapping windows.

    Attributes:
        context, question, answer: columns, as in SQuAD: answers is {"text": [...], "answer_start": [...]}, or a text.
        start: column of the answer's first character, where answers are texts. some_without: whether a question may have none.
    """

    name: ClassVar[str] = "questions"
    primary: ClassVar[str] = "f1"
    added: ClassVar[tuple[str, ...]] = ("prediction", "start", "probability")
    problem_name: ClassVar[str | None] = "question_answering"

    context: str = "context"
    question: str = "question"
    answer: str = "answers"
    start: str | None = None
    some_without: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(c for c in (self.context, self.question, self.answer, self.start) if c)

    @classmethod
    def infer(cls, records: Records, wishes: Wishes) -> Self | None:
        context = column(records, wishes.text, CONTEXT, "the contexts", "--text")
        question = column(records, wishes.pair, QUESTION, "the questions", "--pair")
        answer = column(records, wishes.label, ANSWER, "the answers", "--label")
        if context is None or question is None or answer is None:
            if wishes.task == cls.name:
                lacking = "contexts" if context is None else "questions" if question is None else "answers"
                raise missing(records, f"column that looks like {lacking}", "--text, --pair and --label")
            return None
        if not {context, question, answer} <= {*CONTEXT, *QUESTION, *ANSWER} and wishes.task is None:
            look = records.rows[:LOOK]
            if sum(any(a in str(row.get(context)) for a in cls(answer=answer).target(row)) for row in look) < 0.9 * len(look):
                return None
        start = column(records, None, START, "the places of the answers", "--start")
        found = cls(context, question, answer, start)
        answers = [found.target(row) for row in records.rows]
        if not any(answers):
            raise ValueError(f"the column {answer!r} of {records.name} holds no answer")
        without = sum(isinstance(row.get(answer), dict | list) and not told for row, told in zip(records.rows, answers))
        return found.replace(some_without=without > 0)

    def because(self, records: Records) -> str:
        return f"{self.answer!r} are to be found in {self.context!r} by {self.question!r}, in {len(records):,} rows: {self.name}"

    def problem(self, row: Record, labelled: bool = True) -> str | None:
        for name in (self.context, self.question):
            if empty(row.get(name)):
                return f"empty {name}" if name in row else f"no {name}"
        if not labelled:
            return None
        answers = self.target(row)
        if not answers:
            return None if isinstance(row.get(self.answer), dict | list) else f"empty {self.answer}"
        return None if self._span(row) else "the answer does not stand in the context"

    def texts(self, row: Record) -> tuple[str, ...]:
        return (str(row.get(self.question, "")), str(row.get(self.context, "")))

    def target(self, row: Record) -> list[str]:
        """Every answer that counts as right; none where the context holds none."""
        value = row.get(self.answer)
        if isinstance(value, dict):
            value = value.get("text")
        texts = value if isinstance(value, list) else [value]
        return [str(t.get("text", "") if isinstance(t, dict) else t) for t in texts if not empty(t)]

    def _span(self, row: Record) -> tuple[int, int] | None:
        """First character of the first answer, and the one after its last."""
        answers, context = self.target(row), str(row.get(self.context, ""))
        if not answers:
            return None
        value: Any = row.get(self.answer)
        given = value.get("answer_start") if isinstance(value, dict) else row.get(self.start or "")
        if isinstance(value, list) and value and isinstance(value[0], dict):
            given = value[0].get("answer_start")
        given = given[0] if isinstance(given, list) and given else given
        try:
            start = int(given)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            start = -1
        if start < 0 or not context.startswith(answers[0], start):
            start = context.find(answers[0])
        return None if start < 0 else (start, start + len(answers[0]))

    def windows(self, row: Record, tokenizer: Tokenizer, limit: int) -> list[Window]:
        """The question with each stretch of the context."""
        question, context = self.texts(row)
        return windows(tokenizer, question, context, limit)

    def examples(self, rows: Sequence[Record], tokenizer: Tokenizer, limit: int) -> list[Example]:
        made = []
        for i, row in enumerate(rows):
            span = self._span(row)
            for window in self.windows(row, tokenizer, limit):
                made.append(Example(window.ids, window.types, _places(window, span), row=i))
        return made

    def head(self, model: Model) -> TaskHead | None:
        return token_head(model, 2)

    @property
    def objective(self) -> Extract:
        return Extract()

    def outputs(self, model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> list[Any]:
        """(T, 2) how much speaks for a beginning and for an end at each token."""
        logits = outputs(model, batch, dtype).cpu().numpy()
        lengths = [batch.inputs.shape[1]] * len(logits) if batch.doc is None else (batch.doc >= 0).sum(1).tolist()
        return [each[:length] for each, length in zip(logits, lengths, strict=True)]

    def join(
        self, rows: Sequence[Record], examples: Sequence[Example], outputs: Sequence[Any], tokenizer: Tokenizer
    ) -> list[Any]:
        """The best answer over all windows of a row: text, first character, probability among the candidates."""
        of_row: dict[int, list[int]] = {}
        for i, example in enumerate(examples):
            of_row.setdefault(example.row, []).append(i)
        found: list[Any] = [None] * len(rows)
        for number, numbers in of_row.items():
            row = rows[number]
            candidates: dict[tuple[int, int], float] = {}  # windows overlap: an answer counts once
            nothing = np.inf
            limit = max(len(examples[i].ids) for i in numbers)
            for i, window in zip(numbers, self.windows(row, tokenizer, limit), strict=True):
                for score, *place in _candidates(outputs[i], window):
                    key = (place[0], place[1])
                    candidates[key] = max(score, candidates.get(key, -np.inf))
                nothing = min(nothing, float(outputs[i][0].sum()))
            found[number] = self._best(candidates, nothing, str(row.get(self.context, "")))
        return found

    def _best(self, candidates: dict[tuple[int, int], float], nothing: float, context: str) -> tuple[str, int, float]:
        if self.some_without or not candidates:
            candidates = candidates | {(0, 0): nothing}
        scores = np.array(list(candidates.values()))
        best = int(scores.argmax())
        start, stop = list(candidates)[best]
        return context[start:stop], start, float(1 / np.exp(scores - scores[best]).sum())

    def counts(self, predictions: Sequence[Any], rows: Sequence[Record]) -> AnswerCounts:
        pairs = [(p[0], self.target(row) or [""]) for p, row in zip(predictions, rows, strict=True) if p is not None]
        exact = sum(any(normal(p) == normal(t) for t in told) for p, told in pairs)
        return AnswerCounts(len(pairs), exact, sum(max(overlap(p, t) for t in told) for p, told in pairs))

    def render(self, prediction: Any) -> dict[str, Any]:
        text, start, probability = prediction
        return {"prediction": text, "start": start if text else -1, "probability": round(probability, 4)}


@dataclass(frozen=True)
class AnswerCounts:
    """Of answers: how many there are, and the sums of exact match and F1 with the most similar of the right ones."""

    rows: int
    exact: int
    f1: float

    def __add__(self, other: Self) -> Self:
        return type(self)(self.rows + other.rows, self.exact + other.exact, self.f1 + other.f1)

    def scores(self) -> dict[str, float]:
        """exact match and F1 of words (of characters, for Chinese) with the most similar answer (Rajpurkar et al. 2016)."""
        sums = {"exact": float(self.exact), "f1": self.f1}
        return {name: total / self.rows if self.rows else math.nan for name, total in sums.items()}


def _places(window: Window, span: tuple[int, int] | None) -> tuple[int, int]:
    """The tokens in which the answer begins and ends, or NOWHERE."""
    if span is None:
        return NOWHERE
    inside = [i for i, place in enumerate(window.places) if place is not None and place[0] < span[1] and place[1] > span[0]]
    if not inside or window.places[inside[0]][0] > span[0] or window.places[inside[-1]][1] < span[1]:  # type: ignore[index]
        return NOWHERE
    return inside[0], inside[-1]


def _candidates(logits: Any, window: Window) -> Iterator[tuple[float, int, int]]:
    """(score, first character, the one after the last) of the likeliest answers of a window."""
    inside = np.array([i for i, place in enumerate(window.places) if place is not None])
    if not len(inside):
        return
    firsts = inside[np.argsort(-logits[inside, 0], kind="stable")[:BEST]]
    lasts = inside[np.argsort(-logits[inside, 1], kind="stable")[:BEST]]
    for first in firsts:
        for last in lasts:
            if first <= last < first + LONGEST:
                start, stop = window.places[first], window.places[last]
                assert start is not None and stop is not None
                yield float(logits[first, 0] + logits[last, 1]), start[0], stop[1]


def normal(text: str) -> str:
    """Lower case, without articles, punctuation and extra spaces (SQuAD's evaluation)."""
    return " ".join(_units(text))


def overlap(guess: str, answer: str) -> float:
    """F1 of the words of both (SQuAD); Chinese characters count as words (CMRC 2018)."""
    a, b = _units(guess), _units(answer)
    if not a or not b:
        return float(a == b)
    same = sum((Counter(a) & Counter(b)).values())
    return 2 * same / (len(a) + len(b))


def _units(text: str) -> list[str]:
    spaced = "".join(
        f" {c} " if _wide(c) else " " if c in _MARKS and not c.isascii() else "" if c in _MARKS else c for c in text.lower()
    )
    return [word for word in spaced.split() if word not in ARTICLES]


_MARKS = set(string.punctuation) | set("，。：？！“”；’《》……·、「」（）－～『』【】〈〉—")


def _wide(character: str) -> bool:
    return "\u3400" <= character <= "\u9fff" or "\U00020000" <= character <= "\U0003ffff"
