"""Judge: the cleaning step `classifier` with the model that `genus tune` made, or one in Hugging Face layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genus.prepare.steps.classifier import Classifier, Scorer
from genus.spec import nearest

if TYPE_CHECKING:
    from genus.run import Loaded
    from genus.tune.predict import Labeller
    from genus.tune.task import Task

CHARACTERS = 16
"""For each token that is read, characters that are looked at: more than any language has in a token."""


@dataclass(frozen=True)
class Judge(Classifier):
    """Keep documents by the score of a classifier that `genus tune` made, or of a Hugging Face folder: quality, toxicity ..."""

    def reads(self) -> tuple[str, ...]:
        from genus.run import model_folder

        return tuple(str(model_folder(path)[0]) for path in super().reads())

    def scorer(self) -> Scorer:
        """Load the model, on this machine's accelerator where there is one; texts are read in batches of like length.

        Raises:
            ValueError: the model classifies no texts, or has no such label; the message lists those it has.
            FileNotFoundError: there is no model.
        """
        import torch

        from genus.tune.tasks.regression import Regression

        labeller = labeller_of(self.model)
        task: Any = labeller.task
        number = None if isinstance(task, Regression) else self._number(task.labels)
        if number is None and self.label:
            raise ValueError(f"classifier: {self.model} gives a number, not labels; leave out label={self.label}")
        most = CHARACTERS * labeller.limit

        def score(texts: Sequence[str]) -> np.ndarray:
            # One thread: a sum of floats depends on how many share it, and the result may not depend on the number of workers.
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                found = labeller.label([{task.text: text[:most]} for text in texts])
            finally:
                torch.set_num_threads(threads)
            values = [prediction if number is None or prediction is None else prediction[number] for _, prediction in found]
            return np.array([np.nan if value is None else value for value in values], dtype=np.float32)

        return score

    def _number(self, labels: Sequence[str]) -> int:
        if self.label not in labels:
            asked = f"has no label {self.label!r}{nearest(self.label, labels)}" if self.label else f"has {', '.join(labels)}"
            raise ValueError(f"classifier: {self.model} {asked}; name one with label=")
        return list(labels).index(self.label)


def labeller_of(path: str | Path) -> Labeller:
    """A model that reads single texts and gives each a label or a number.

    Raises:
        ValueError: it does something else. FileNotFoundError: there is no model.
    """
    from genus.run import load
    from genus.tune.predict import Labeller
    from genus.tune.tasks.classification import Classification
    from genus.tune.tasks.regression import Regression

    loaded = load(path)
    labeller = Labeller.load(loaded, dtype="fp32") if loaded.config else _of_folder(loaded)
    task = labeller.task
    if not isinstance(task, Classification | Regression) or task.pair:
        raise ValueError(f"classifier: {path} was tuned for {task.name} and does not read one text: give a classifier of texts")
    return labeller


def _of_folder(loaded: Loaded) -> Labeller:
    """A sequence classifier of Hugging Face."""
    from genus.export.labels import OF_A_TEXT
    from genus.parts.model import Model
    from genus.recipes.recipe import Recipe
    from genus.train.machine import default_device
    from genus.tune.base import Base
    from genus.tune.options import TuneOptions
    from genus.tune.predict import Labeller

    if loaded.labels is None or loaded.labels.problem not in OF_A_TEXT or not isinstance(loaded.spec, Model):
        raise ValueError(f"classifier: {loaded.path} classifies no texts; tune it first: genus tune {loaded.path} LABELS -o RUN")
    if loaded.tokenizer is None:
        raise ValueError(f"classifier: {loaded.path} has no tokenizer.json; put the model's tokenizer beside it")
    recipe = Recipe(loaded.path.name).replace(model=loaded.spec)
    base = Base("folder", recipe, loaded.tokenizer, loaded.path)
    model = loaded.model.to(default_device()).eval()
    return Labeller(_task(loaded), base, model, base.limit(TuneOptions()))


def _task(loaded: Loaded) -> Task:
    from genus.tune.tasks.classification import Classification
    from genus.tune.tasks.flags import Flags
    from genus.tune.tasks.regression import Regression

    assert loaded.labels is not None
    if loaded.labels.problem == "regression":
        return Regression()
    head: Any = loaded.spec.head  # type: ignore[attr-defined]
    names = loaded.labels.names or tuple(f"LABEL_{i}" for i in range(head.outputs))
    return (Flags if loaded.labels.problem == "multi_label_classification" else Classification)(labels=names)
