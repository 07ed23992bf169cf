"""Task: what the labels ask for. Each kind of label is a child of `Task` in `genus.tune.tasks`.

A task knows its columns, makes examples of rows, names the head that reads them, and turns what a model gives back into scores
and columns. It is a Spec, so that `run.json` holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch

from genus.objectives.batch import Batch
from genus.objectives.objective import Objective
from genus.parts.model import Model
from genus.parts.task_head import TaskHead
from genus.prepare.records import Record, Records
from genus.spec import Spec, nearest

if TYPE_CHECKING:
    from genus.generate.beam import Beam
    from genus.modalities.text import Tokenizer
    from genus.train.loader import Loader
    from genus.tune.base import Base
    from genus.tune.metrics import Counts

TEXT = ("text", "sentence", "content", "review", "sentence1", "premise", "question1", "text1", "title", "query", "comment")
"""Usual names of the column that is read, in the order in which they are tried."""
PAIR = ("sentence2", "hypothesis", "question2", "text2", "text_b", "passage")
LABEL = ("label", "labels", "class", "category", "score", "rating", "stars", "sentiment", "target", "value")


class Example(NamedTuple):
    """What a model reads of one row, or of one window of a row.

    Attributes:
        ids: tokens. types: segment type of each token, or empty where all are of type 0. label: what it should say, in the
            task's own form: a class number, a float, a list with a number per token (-100 = none), or (start, end).
        source: tokens of an encoder-decoder's encoder. row: number of the row it was made of, in the rows that were given.
        cut: whether the row's text was longer than the limit.
    """

    ids: list[int]
    types: list[int]
    label: Any
    source: list[int] | None = None
    row: int = 0
    cut: bool = False


@dataclass(frozen=True)
class Wishes:
    """What the user says about the labels; None = to be found out.

    Attributes:
        task: name of a task. text, pair, label: columns: what is read, a second text beside it (a question about a context),
            and what is to be said (an answer, a target text).
    """

    task: str | None = None
    text: str | None = None
    pair: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Task(Spec):
    """What the labels ask for; use one of its children.

    Class attributes:
        name: what `--task` calls it. primary: the score by which models are chosen; higher is better.
        added: the columns of a prediction, as `render` gives them.
        alone: whether fresh weights can learn it from labels alone, so that tuning is measured beside them.
        problem_name: what Hugging Face calls it where the outputs do not tell; None = they do.
    """

    name: ClassVar[str] = ""
    primary: ClassVar[str] = ""
    added: ClassVar[tuple[str, ...]] = ("prediction", "probability")
    alone: ClassVar[bool] = True
    problem_name: ClassVar[str | None] = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that it reads, the labels' last."""
        raise NotImplementedError

    @classmethod
    def infer(cls, records: Records, wishes: Wishes) -> Self | None:
        """The task of these columns and values; None when they are not its own.

        Raises:
            ValueError: `wishes.task` asks for this task, and a column is missing; the message lists those that are there.
        """
        raise NotImplementedError

    def because(self, records: Records) -> str:
        """One line for the user: why the labels are taken for this task."""
        raise NotImplementedError

    def problem(self, row: Record, labelled: bool = True) -> str | None:
        """Why a row cannot be used, or None. `labelled`: whether its label is needed too."""
        raise NotImplementedError

    def texts(self, row: Record) -> tuple[str, ...]:
        """What is read of a row: its text, or its two texts. Equal texts are one row for the search for duplicates."""
        raise NotImplementedError

    def target(self, row: Record) -> Any:
        """The label of a row as `score` compares it: a string of `labels`, a float, a list of tags, a text."""
        raise NotImplementedError

    def stratum(self, row: Record) -> str | None:
        """What splits keep in proportion: the class of a row; None = nothing."""
        return None

    def settle(self, base: Base) -> Base:
        """The base with what the task needs of it: special tokens that its tokenizer lacks, a chat template.

        Raises:
            ValueError: the base cannot do this task; the message says which can.
        """
        return base

    def examples(self, rows: Sequence[Record], tokenizer: Tokenizer, limit: int) -> list[Example]:
        """The rows as a model reads them, at most `limit` tokens each; a row that has no label gets one that does not count."""
        raise NotImplementedError

    def refusal(self, row: Record, tokenizer: Tokenizer) -> str | None:
        """Why a row without `problem` gives no example with this tokenizer, or None."""
        return None

    def head(self, model: Model) -> TaskHead | None:
        """The read-out; None keeps the vocabulary's."""
        raise NotImplementedError

    def begin(self, model: Any) -> None:
        """Give a new read-out better weights than random ones, where the labels tell some."""

    def rates(self, model: Any) -> dict[str, float]:
        """Factors on the learning rate of the read-out's parameters, by name."""
        return {}

    @property
    def objective(self) -> Objective:
        """Makes a batch of examples, and its loss."""
        raise NotImplementedError

    def loader(self, examples: Sequence[Example], batch: int, limit: int, seed: int) -> Loader:
        """Batches of `batch` rows of at most `limit` tokens for training, by number; `objective` makes them tensors."""
        from genus.tune.examples import Batches

        return Batches(examples, batch, seed)

    def outputs(self, model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> list[Any]:
        """What the model gives for each example of a batch."""
        raise NotImplementedError

    def join(
        self, rows: Sequence[Record], examples: Sequence[Example], outputs: Sequence[Any], tokenizer: Tokenizer
    ) -> list[Any]:
        """A prediction for each row, from the outputs of its examples; None for a row without one."""
        found: list[Any] = [None] * len(rows)
        for example, output in zip(examples, outputs, strict=True):
            found[example.row] = output
        return found

    def write(
        self,
        model: Any,
        rows: Sequence[Record],
        predictions: Sequence[Any],
        tokenizer: Tokenizer,
        dtype: torch.dtype,
        beam: Beam | None = None,
    ) -> list[Any]:
        """The predictions of rows, with the texts that the model writes itself where the task is to write.

        `beam`: how it searches for them; None = token by token.
        """
        return list(predictions)

    def counts(self, predictions: Sequence[Any], rows: Sequence[Record]) -> Counts:
        """What the scores of predictions need of them and of the rows' labels."""
        raise NotImplementedError

    def score(self, predictions: Sequence[Any], rows: Sequence[Record]) -> dict[str, float]:
        """Scores by name; `primary` is one of them."""
        return self.counts(predictions, rows).scores()

    def render(self, prediction: Any) -> dict[str, Any]:
        """The columns that `genus predict` adds for a prediction."""
        raise NotImplementedError

    def labels_of(self) -> tuple[str, ...]:
        """Names of the head's outputs, for `id2label` of a Hugging Face config; empty where outputs have no names."""
        return ()


def column(records: Records, wanted: str | None, usual: Iterable[str], what: str, flag: str) -> str | None:
    """The column that the user names, or the first of the usual names that is there; None without one.

    Raises:
        ValueError: the column that the user names is not there.
    """
    if wanted is not None:
        if wanted not in records.columns:
            raise missing(records, f"the column {wanted!r} for {what}", flag, wanted)
        return wanted
    folded = {name.strip().casefold(): name for name in reversed(records.columns)}
    return next((folded[name] for name in usual if name in folded), None)


def missing(records: Records, what: str, flag: str, wanted: str = "") -> ValueError:
    """The error for a column that is not there."""
    there = columns_told(wanted, records.columns)
    return ValueError(f"no {what.removeprefix('the ')} in {records.name} (name one with {flag}); there are {there}")


def columns_told(wanted: str, columns: Sequence[str]) -> str:
    """The columns that there are, with a hint where one looks like the one that is wanted, or like several."""
    told = ", ".join(columns) or "none"
    if len(columns) == 1 and ";" in columns[0]:
        return f"{told} (one column: write the file with commas instead of semicolons)"
    hint = nearest(wanted, columns) if wanted else ""
    return f"{told} ({hint.removeprefix('; ')})" if "did you mean" in hint else told


def empty(value: Any) -> bool:
    """Whether a cell holds nothing."""
    return value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, list) and not value)


Say = Callable[[str], None]
