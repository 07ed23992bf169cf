"""A tuned model, or a classifier in Hugging Face layout, that labels rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

import genus.tune.tasks  # noqa: F401  (registers every task)
from genus.export.labels import OF_A_TEXT
from genus.parts.task_head import TaskHead
from genus.prepare.records import Record
from genus.recipes.recipe import Recipe
from genus.run import Loaded, load
from genus.spec import from_json
from genus.train.machine import compute_dtype, default_device
from genus.tune.base import Base
from genus.tune.examples import Examples
from genus.tune.fitting import predict
from genus.tune.options import TuneOptions
from genus.tune.task import Task, columns_told
from genus.tune.tasks.classification import Classification
from genus.tune.tasks.flags import Flags
from genus.tune.tasks.regression import Regression
from genus.tune.writing import WritingTask

if TYPE_CHECKING:
    from genus.generate.beam import Beam

ERROR = "error"  # the column that says why a row has no prediction


@dataclass
class Labeller:
    """A tuned model, ready to label rows. `Labeller.load(run)` makes one.

    Attributes:
        columns: what the file calls the columns that the task reads, where it has other names. beam: how a task that writes
            texts searches for them; None = token by token.
    """

    task: Task
    base: Base
    model: Any
    limit: int
    dtype: torch.dtype = torch.float32
    columns: dict[str, str] = field(default_factory=dict)
    beam: Beam | None = None
    cut: int = 0

    @classmethod
    def load(
        cls,
        run: str | Path | Loaded,
        text: str | None = None,
        pair: str | None = None,
        dtype: str = "auto",
        beam: Beam | None = None,
    ) -> Labeller:
        """Open a tuned run or a classifier in Hugging Face layout, or take what `genus.load` returned.

        A classifier that was not tuned here says what its labels are, but not which columns it reads: those that are named, else
        `text`.

        Raises:
            ValueError: the model does no task, or a beam is asked for and its task writes no text. FileNotFoundError: it has no
                model.
        """
        loaded = run if isinstance(run, Loaded) else load(run)
        path = loaded.path
        task = _task(loaded, text, pair)
        if beam is not None and not isinstance(task, WritingTask):
            raise ValueError(f"{path} was tuned for {task.name} and writes no text to search for; leave out the beam")
        if loaded.tokenizer is None:
            raise ValueError(f"{path} has no tokenizer.json, so its model reads no texts; put its tokenizer beside it")
        saved, given = loaded.config.get("recipe"), loaded.config.get("options")
        recipe = (from_json(saved) if saved else Recipe(path.name)).replace(model=loaded.spec)
        kind: Literal["run", "folder"] = "run" if loaded.config else "folder"
        base = Base(kind, recipe, loaded.tokenizer, path, None, loaded.config.get("task"))
        options = TuneOptions.from_json(given) if given else TuneOptions()
        device = default_device()
        named = zip(task.columns, (text, pair), strict=False)
        columns = {name: own for name, own in named if own is not None and own != name}
        model = loaded.model.to(device).eval()
        return cls(task, base, model, base.limit(options), compute_dtype(dtype, device), columns, beam)

    def __call__(self, rows: Sequence[Record]) -> list[Record]:
        """The columns to add to each row: prediction, probability ..., or `error`."""
        return [each for each, _ in self.label(rows)]

    def label(self, rows: Sequence[Record]) -> list[tuple[Record, Any]]:
        """The columns to add to each row, and the prediction as `Task.score` reads it (None where there is none)."""
        named = list(map(self.named, rows))
        problems = [self.task.problem(row, labelled=False) for row in named]
        good = [i for i, problem in enumerate(problems) if problem is None]
        found: list[tuple[Record, Any]] = [({ERROR: problem}, None) for problem in problems]
        if good:
            examples = Examples.encode(self.task, [named[i] for i in good], self.base.tokenizer, self.limit, self.base.types)
            self.cut += examples.cut
            predictions, _ = predict(self.model, self.task, self.base, examples, self.dtype, beam=self.beam)
            for i, prediction in zip(good, predictions, strict=True):
                found[i] = ({ERROR: "no prediction"}, None) if prediction is None else (self.task.render(prediction), prediction)
        return found

    def named(self, row: Record) -> Record:
        """The row with its columns called as the task calls them."""
        return row | {name: row[own] for name, own in self.columns.items() if own in row} if self.columns else row

    def check(self, rows: Iterable[Record], path: str | Path) -> None:
        """Whether some row has the columns that the task reads.

        Raises:
            ValueError: none has one of them; the message lists those that are there.
        """
        there = list(dict.fromkeys(name for row in rows for name in row))
        needed = self.task.columns[: max(1, len(self.task.texts({})))]
        for number, name in enumerate(needed):
            own = self.columns.get(name, name)
            if there and own not in there:
                flag = ("--text", "--pair")[min(number, 1)]
                raise ValueError(
                    f"{path} has no column {own!r}, which the model reads; its columns are {columns_told(own, there)}. "
                    f"Name the one to read with {flag}"
                )


def _task(loaded: Loaded, text: str | None, pair: str | None) -> Task:
    """What the model does."""
    if "task" in loaded.config:
        return from_json(loaded.config["task"])  # type: ignore[no-any-return]
    told, head = loaded.labels, getattr(loaded.spec, "head", None)
    if told is None or told.problem not in OF_A_TEXT or not isinstance(head, TaskHead):
        raise ValueError(
            f"{loaded.path} was not made by genus tune and is no classifier, so it does no task; tune it first: "
            f"genus tune {loaded.path} LABELS -o RUN"
        )
    if told.problem == "regression":
        return Regression(text or "text", pair)
    kind = Flags if told.problem == "multi_label_classification" else Classification
    return kind(text or "text", pair, labels=told.names or tuple(f"LABEL_{i}" for i in range(head.outputs)))
