"""Reading a trained model: log-probability and correctness of chosen targets, and what a read-only probe is given.

Shapes: N rows, T positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from genus.evaluate.probes.labels import Example
from genus.evaluate.scoring import how
from genus.modalities.text import Tokenizer
from genus.ops.cross_entropy import IGNORE
from genus.parts.ngram import NGram
from genus.prepare.dataset import Split
from genus.spec import Spec

POSITIONS = 8192  # computed at once
LOGITS = 2**24  # numbers of the read-out held at once
SHORTEST = 16  # positions below which no probe of a context makes sense
WINDOWS = 128  # of text that are read at most


@dataclass(frozen=True)
class Scores:
    """(N, T) natural-log probability of each target, and whether it was the likeliest token; 0 and False where there is none."""

    log_probs: np.ndarray
    correct: np.ndarray


@torch.inference_mode()
def read(model: Any, inputs: np.ndarray, targets: np.ndarray, positions: int = POSITIONS) -> Scores:
    """Score rows, each a document of its own. Targets of -100 are not scored."""
    log_probs, correct = np.zeros(inputs.shape, np.float32), np.zeros(inputs.shape, bool)
    rows = max(1, positions // inputs.shape[1])
    device = next((t.device for t in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    for start in range(0, len(inputs), rows):
        part = slice(start, start + rows)
        ids, aims = torch.from_numpy(inputs[part]).to(device), torch.from_numpy(targets[part]).to(device)
        values, hits = _count(model, ids, aims) if isinstance(model, NGram.Module) else _descend(model, ids, aims)
        log_probs[part], correct[part] = values.cpu().numpy(), hits.cpu().numpy()
    return Scores(log_probs, correct)


def _descend(model: Any, ids: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The read-out is computed where there is a target."""
    hidden = model.hidden(ids)
    wanted = targets != IGNORE
    vectors, aims = hidden[wanted], targets[wanted]
    found, right = [torch.zeros(0, device=ids.device)], [torch.zeros(0, dtype=torch.bool, device=ids.device)]
    for x, t in zip(vectors.split(_at_once(model.spec.embed.vocab)), aims.split(_at_once(model.spec.embed.vocab)), strict=True):
        logits = model.head(x).log_softmax(-1)
        found.append(logits.gather(-1, t[:, None])[:, 0])
        right.append(logits.argmax(-1) == t)
    values, hits = torch.zeros(targets.shape, device=ids.device), torch.zeros_like(wanted)
    values[wanted], hits[wanted] = torch.cat(found), torch.cat(right)
    return values, hits


def _count(model: Any, ids: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    hits = torch.zeros_like(targets, dtype=torch.bool)
    for rows in torch.arange(len(ids)).split(max(1, _at_once(model.spec.vocab) // ids.shape[1])):
        hits[rows] = model(ids[rows]).argmax(-1) == targets[rows]
    return model.score(ids, targets), hits


def _at_once(vocab: int) -> int:
    return max(1, LOGITS // vocab)


@dataclass
class Subject:
    """A trained model, and what a read-only probe may ask it about.

    Attributes:
        length: positions that it is read over. split: held-out text, where there is some. labels: the user's examples.
        shots: numbers of examples before a question. notes: filled by the probes.
    """

    name: str
    model: Any
    spec: Spec
    tokenizer: Tokenizer
    length: int
    split: Split | None = None
    labels: tuple[Example, ...] = ()
    shots: tuple[int, ...] = (0, 1, 2, 4, 8)
    seed: int = 0
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        how(self.spec)  # refuses what has no left-to-right probability
        self.notes = list(self.notes)

    def need(self, positions: int, probe: str) -> None:
        """Refuse a probe that needs more positions than the model has.

        Raises:
            ValueError: it does.
        """
        if self.length < positions:
            raise ValueError(
                f"the probe {probe!r} needs a context of at least {positions:,} positions and {self.name} is read over "
                f"{self.length:,}; raise --window if the model can, or leave the probe out"
            )

    @cached_property
    def ordinary(self) -> np.ndarray:
        """Ids of all tokens but the special ones."""
        special = {self.tokenizer.bos_id, self.tokenizer.eos_id}
        return np.array([i for i in range(self.tokenizer.vocab_size) if i not in special])

    @cached_property
    def text(self) -> Scores:
        """Scores of windows of held-out text, (windows, positions).

        Windows lie within documents; before the first token of one stands the token before it, or BOS at a beginning.

        Raises:
            ValueError: no text was given, or no document is long enough.
        """
        if self.split is None:
            raise ValueError(
                "the probes 'context' and 'position' read text: give DATA, or keep the prepared data where the run was trained"
            )
        self.need(SHORTEST, "position")
        lengths = np.diff(self.split.ends, prepend=0)
        length = self.length
        while length > SHORTEST and _windows(lengths, length) < min(16, _windows(lengths, SHORTEST)):
            length = max(SHORTEST, length // 2)
        if not _windows(lengths, length):
            raise ValueError(
                f"the longest document has {int(lengths.max(initial=0)):,} tokens and the probes 'context' and 'position' need "
                f"{SHORTEST}; give text with longer documents"
            )
        if length < self.length:
            self.notes.append(f"read over {length:,} positions, not {self.length:,}: few documents are longer")
        return read(self.model, *self._rows(lengths, length))

    def _rows(self, lengths: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Evenly spaced windows: inputs and targets (windows, length)."""
        assert self.split is not None
        begins = self.split.ends - lengths
        starts = np.concatenate(
            [np.arange(b, b + n - length + 1, length) for b, n in zip(begins, lengths, strict=True) if n >= length]
        )
        starts = starts[np.unique(np.linspace(0, len(starts), min(WINDOWS, len(starts)), endpoint=False).astype(np.int64))]
        first = set(begins.tolist())
        targets = np.stack([self.split.read(int(s), int(s) + length).astype(np.int64) for s in starts])
        before = [self.tokenizer.bos_id if int(s) in first else int(self.split.read(int(s) - 1, int(s))[0]) for s in starts]
        return np.concatenate([np.array(before)[:, None], targets[:, :-1]], axis=1), targets


def _windows(lengths: np.ndarray, length: int) -> int:
    return int((lengths // length).sum())


def standard_error(values: np.ndarray) -> float:
    """Of the mean over units."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def mean_interval(values: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of a mean over units."""
    from genus.evaluate.interval import bootstrap

    return bootstrap(np.asarray(values, np.float64), np.ones(len(values)))


def intervals(**units: np.ndarray) -> dict[str, tuple[float, float]]:
    """95 % intervals by name, of those that have one."""
    found = {name: mean_interval(values) for name, values in units.items()}
    return {name: value for name, value in found.items() if value is not None}
