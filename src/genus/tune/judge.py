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
    from genus.tune.labeller import Labeller

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
    from genus.tune.labeller import Labeller
    from genus.tune.tasks.classification import Classification
    from genus.tune.tasks.regression import Regression

    labeller = Labeller.load(path, dtype="fp32")
    task = labeller.task
    if not isinstance(task, Classification | Regression) or task.pair:
        raise ValueError(f"classifier: {path} was tuned for {task.name} and does not read one text: give a classifier of texts")
    return labeller
