"""Labels without an update: examples stand in the context, and the label's words are scored after the question.

Brown et al., "Language Models are Few-Shot Learners" (2020), section 2; the calibration is Zhao et al., "Calibrate Before Use"
(2021), section 5: what the model answers when nothing is asked is divided out.

Shapes: N questions, K labels.
"""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from genus.evaluate.scoring import how
from genus.generate.state import select_rows
from genus.modalities.text import Tokenizer
from genus.ops.cross_entropy import IGNORE
from genus.parts.ngram import NGram
from genus.tune.unsuitable import Unsuitable

CONTENT_FREE = ("N/A", "", "[MASK]")  # what stands in the question's place (Zhao et al. 2021, section 5)
BETWEEN = "\n\n"  # after every example, and after the label that is scored
POSITIONS = 8192  # computed at once


@dataclass(frozen=True)
class Template:
    """How a row is written: the text with a column's name in braces, the label's column last.

    Attributes:
        text: such as "Review: {review}\\nSentiment: {label}". words: what stands for a label; a label that is not among them
            stands for itself.
    """

    text: str
    words: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        parts = self._parts()
        if len(parts) < 2 or parts[-1][1] is None:
            raise ValueError(
                f"the prompt {self.text!r} must end with the label's column in braces, "
                'as in "Review: {text}\\nSentiment: {label}"'
            )

    @classmethod
    def infer(cls, texts: Sequence[str], label: str, words: Mapping[Any, str] | None = None) -> Template:
        """The columns' names before their texts, a line each."""
        lines = "\n".join(f"{_heading(name)}: {{{name}}}" for name in (*texts, label))
        return cls(lines, tuple((str(k), str(v)) for k, v in (words or {}).items()))

    @property
    def columns(self) -> list[str]:
        """The columns that it shows, the label's last."""
        return [name for _, name in self._parts() if name is not None]

    def check(self, columns: Sequence[str]) -> None:
        """Refuse a prompt that asks for a column that is not there.

        Raises:
            ValueError: it does.
        """
        missing = [name for name in self.columns if name not in columns]
        if missing:
            raise ValueError(f"the prompt names the column {missing[0]!r}; the columns are {', '.join(columns)}")

    def question(self, row: Mapping[str, Any]) -> str:
        """All that stands before the label, without the white space right before it."""
        pieces = [before + ("" if name is None else str(row[name]).strip()) for before, name in self._parts()[:-1]]
        return "".join(pieces) + self._parts()[-1][0].rstrip(" ")

    def answer(self, label: Any) -> str:
        """A label as it is scored: its words, the space before them and what ends an example."""
        before = self._parts()[-1][0]
        return before[len(before.rstrip(" ")) :] + self.word(label) + BETWEEN

    def word(self, label: Any) -> str:
        """What stands for a label."""
        return dict(self.words).get(str(label), str(label))

    def _parts(self) -> list[tuple[str, str | None]]:
        return [(before, name) for before, name, _, _ in string.Formatter().parse(self.text)]


@dataclass(frozen=True)
class Answers:
    """What a model answers.

    Attributes:
        log_probs: (N, K) natural logarithm of the probability of each label's words. plain: (N, K) the same as shares of one.
        calibrated: (N, K) with the answer to empty questions divided out. shown: (N,) examples before each question.
        cut: questions whose beginning had to go. wanted: examples that there should be.
    """

    log_probs: np.ndarray
    plain: np.ndarray
    calibrated: np.ndarray
    shown: np.ndarray
    cut: int
    wanted: int

    @property
    def notes(self) -> list[str]:
        """What did not fit."""
        fewer = int((self.shown < self.wanted).sum())
        result = []
        if fewer:
            result.append(
                f"{fewer:,} of {len(self.shown):,} questions had no room for all {self.wanted} examples; "
                f"{self.shown.mean():.1f} were shown on average"
            )
        if self.cut:
            result.append(f"{self.cut:,} of {len(self.shown):,} questions lost the beginning: longer than the context")
        return result


def balanced(labels: Sequence[Any], count: int, seed: int) -> list[int]:
    """`count` row numbers with as many of each label as can be; any last part of them is balanced as well.

    Labels take turns in an order drawn anew in each round; a label that has run out is passed over.
    """
    rng = np.random.default_rng(seed)
    left: dict[Any, list[int]] = defaultdict(list)
    for number in rng.permutation(len(labels)):
        left[labels[number]].append(int(number))
    names = sorted(left, key=str)
    chosen: list[int] = []
    while len(chosen) < min(count, len(labels)):
        for i in rng.permutation(len(names)):
            if left[names[i]]:
                chosen.append(left[names[i]].pop())
    return chosen[: min(count, len(labels))]


@dataclass(frozen=True)
class Prompt:
    """Examples in front of questions.

    Attributes:
        template: how a row is written. labels: all that may be answered. examples: rows with their label, in the order shown.
        limit: positions of the model; None = as many as are needed.
    """

    template: Template
    labels: tuple[Any, ...]
    examples: tuple[Mapping[str, Any], ...] = ()
    limit: int | None = None

    def answer(self, model: Any, tokenizer: Tokenizer, rows: Sequence[Mapping[str, Any]]) -> Answers:
        """Score every label after every row's question.

        Where not all examples fit, the first of them are left out; where a question does not fit, its beginning.

        Raises:
            ValueError: the model has no left-to-right probability.
            Unsuitable: a label is longer than the model reads, or the tokenizer writes two labels alike.
        """
        how(model.spec)
        endings = self._endings(tokenizer)
        shown = [tokenizer.encode(self._example(row)) for row in self.examples]
        questions = [tokenizer.encode(self.template.question(row)) for row in rows]
        longest = max(map(len, endings))
        fits = [self._room(shown, len(q) + longest) for q in questions]
        room = None if self.limit is None else self.limit - longest
        cut = 0 if room is None else sum(len(q) > room for q in questions)
        if room is not None:
            if room < 1:
                raise Unsuitable(f"a label has {longest} tokens and the model {self.limit} positions; choose shorter words")
            questions = [_last(q, room) for q in questions]
        found = np.empty((len(rows), len(endings)))
        nothing = np.empty_like(found)
        for count in sorted(set(fits)):
            own = [i for i, fit in enumerate(fits) if fit == count]
            prefix = [tokenizer.bos_id, *(i for ids in shown[len(shown) - count :] for i in ids)]
            found[own] = after(model, prefix, [questions[i] for i in own], endings, tokenizer.bos_id)
            free = [tokenizer.encode(self.template.question(self._empty(text))) for text in CONTENT_FREE]
            free = free if room is None else [_last(q, room - len(prefix) + 1) for q in free]
            nothing[own] = _shares(after(model, prefix, free, endings, tokenizer.bos_id)).mean(0)
        plain = _shares(found)
        calibrated = plain / np.maximum(nothing, 1e-30)
        calibrated /= calibrated.sum(1, keepdims=True)
        return Answers(found, plain, calibrated, np.array(fits), cut, len(shown))

    def __str__(self) -> str:
        """The prompt as the model reads it, up to a question."""
        row = dict.fromkeys(self.template.columns, "...")
        return "".join(self._example(e) for e in self.examples) + self.template.question(row)

    def _example(self, row: Mapping[str, Any]) -> str:
        return self.template.question(row) + self.template.answer(row[self.template.columns[-1]])

    def _empty(self, text: str) -> dict[str, str]:
        return dict.fromkeys(self.template.columns, text)

    def _room(self, shown: list[list[int]], rest: int) -> int:
        """How many of the last examples fit before `rest` positions; BOS takes one and the last token is not read."""
        if self.limit is None:
            return len(shown)
        count, left = 0, self.limit - rest
        for ids in reversed(shown):
            left -= len(ids)
            if left < 0:
                break
            count += 1
        return count

    def _endings(self, tokenizer: Tokenizer) -> list[list[int]]:
        endings = [tokenizer.encode(self.template.answer(label)) for label in self.labels]
        for i, ids in enumerate(endings):
            if ids in endings[:i]:
                words = [self.template.word(self.labels[j]) for j in (endings.index(ids), i)]
                raise Unsuitable(f"the tokenizer writes the labels {words[0]!r} and {words[1]!r} alike; give them other words")
        return endings


@torch.inference_mode()
def after(model: Any, prefix: list[int], questions: Sequence[list[int]], endings: Sequence[list[int]], fill: int) -> np.ndarray:
    """(questions, endings) log-probability of each ending after the prefix and each question.

    The prefix is read once: its state is copied for every row. `fill`: an id for the places after a row.
    """
    rows = [(question, ending) for question in questions for ending in endings]
    if isinstance(model, NGram.Module):  # it looks back a few words only: there is nothing to keep
        shown = [((prefix + text)[-model.spec.order :], ending) for text, ending in rows]
        ids, targets = (torch.from_numpy(x) for x in _rows(shown, fill))
        scores = model.score(ids, targets).double()
        return np.asarray(scores.sum(1).numpy().reshape(len(questions), len(endings)))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    result = np.empty(len(rows))
    # The last token of what they share begins every row, so that a row without a question has a place to be read from.
    state, length, shared = None, 0, prefix[:-1]
    widest = max(len(q) + len(e) for q, e in rows)
    device = next(model.parameters()).device
    if shared:
        state = model.init_state(1, len(shared) + widest, torch.float32, device)
        model.hidden(torch.tensor([shared], device=device), state=state)
        length = len(shared)
    at_once = max(1, POSITIONS // (length + widest))
    for start in range(0, len(order), at_once):
        part = order[start : start + at_once]
        ids, targets = (
            torch.from_numpy(x).to(device) for x in _rows([(prefix[-1:] + rows[i][0], rows[i][1]) for i in part], fill)
        )
        own = None if state is None else select_rows(state, torch.zeros(len(part), dtype=torch.long, device=device))
        hidden = model.hidden(ids, state=own)
        wanted = targets != IGNORE
        values = torch.zeros(targets.shape, dtype=torch.float64, device=device)
        values[wanted] = model.head.score(hidden[wanted], targets[wanted]).double()
        result[part] = values.sum(1).cpu().numpy()
    return result.reshape(len(questions), len(endings))


def _rows(pairs: Sequence[tuple[list[int], list[int]]], fill: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of (text, ending) pairs; what follows a row stands on the right, where no model looks."""
    length = max(len(text) + len(ending) for text, ending in pairs) - 1
    ids, targets = np.full((len(pairs), length), fill), np.full((len(pairs), length), IGNORE)
    for row, (text, ending) in enumerate(pairs):
        whole = text + ending
        ids[row, : len(whole) - 1] = whole[:-1]
        targets[row, len(text) - 1 : len(whole) - 1] = ending
    return ids, targets


def _last(ids: list[int], count: int) -> list[int]:
    return ids[max(0, len(ids) - count) :]


def _shares(log_probs: np.ndarray) -> np.ndarray:
    """Probabilities among the labels."""
    shares = np.exp(log_probs - log_probs.max(1, keepdims=True))
    return np.asarray(shares / shares.sum(1, keepdims=True))


def _heading(column: str) -> str:
    name = column.replace("_", " ").strip()
    return name[:1].upper() + name[1:]
