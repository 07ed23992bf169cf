"""What a task that writes text has of a row: how well the model foretells the wanted text, and the text that it writes itself.

Shapes: B rows, T positions, D width, N targets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch

from genus.objectives.batch import Batch
from genus.ops.cross_entropy import IGNORE
from genus.parts.model import Model
from genus.parts.task_head import TaskHead
from genus.prepare.records import Record
from genus.tune import text_scores
from genus.tune.task import Example, Task

if TYPE_CHECKING:
    from genus.generate.beam import Beam
    from genus.modalities.text import Tokenizer

ROWS = 512  # targets scored at once: bounds the logits held in memory
AT_ONCE = 16  # texts written together
CONTEXT = 2048  # positions of a model that has no limit
LONGEST = 512  # tokens of a text, at most
SPARE = 8  # tokens


class Written(NamedTuple):
    """What a model makes of a row.

    Attributes:
        nats: -log probability of the wanted text. hits: its tokens that were the most probable ones. tokens: how many it has.
        text: what the model writes; None where it was not asked.
    """

    nats: float
    hits: int
    tokens: int
    text: str | None = None


def foretold(model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> list[Written]:
    """How well the targets of each row are foretold when all before them is given."""
    given = {} if batch.source is None else {"source": batch.source, "source_doc": batch.source_doc}
    hidden_BTD = model.hidden(batch.inputs, batch.doc, dtype=dtype, **given)
    row_N, place_N = (batch.targets != IGNORE).nonzero(as_tuple=True)
    hidden_ND, target_N = hidden_BTD[row_N, place_N], batch.targets[row_N, place_N]
    nats, hits, count = (torch.zeros(len(batch.inputs), dtype=torch.float64, device=row_N.device) for _ in range(3))
    for start in range(0, len(row_N), ROWS):
        part = slice(start, start + ROWS)
        scores = model.head(hidden_ND[part]).log_softmax(-1)
        said = scores.gather(1, target_N[part, None])[:, 0]
        nats.index_add_(0, row_N[part], -said.double())
        hits.index_add_(0, row_N[part], (scores.argmax(-1) == target_N[part]).double())
        count.index_add_(0, row_N[part], torch.ones_like(said, dtype=torch.float64))
    return [Written(n, int(h), int(c)) for n, h, c in zip(nats.tolist(), hits.tolist(), count.tolist(), strict=True)]


def joined(rows: int, examples: Iterable[Example], outputs: Iterable[Any]) -> list[Any]:
    """The examples of each row as one; None for a row without any."""
    found: list[Any] = [None] * rows
    for example, output in zip(examples, outputs, strict=True):
        before = found[example.row] or Written(0.0, 0, 0)
        found[example.row] = Written(*(a + b for a, b in zip(before[:3], output[:3])))
    return found


@dataclass(frozen=True)
class WrittenCounts:
    """Of rows: sums of what `Written` holds, and the texts that were written beside those that were wanted."""

    nats: float
    hits: int
    tokens: int
    texts: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, predictions: Sequence[Written | None], wanted: Sequence[str]) -> Self:
        there = [(p, w) for p, w in zip(predictions, wanted, strict=True) if p is not None]
        texts = tuple((p.text, w) for p, w in there if p.text is not None and w)
        return cls(sum(p.nats for p, _ in there), sum(p.hits for p, _ in there), sum(p.tokens for p, _ in there), texts)

    def __add__(self, other: Self) -> Self:
        sums = self.nats + other.nats, self.hits + other.hits, self.tokens + other.tokens
        return type(self)(*sums, self.texts + other.texts)

    def scores(self) -> dict[str, float]:
        """log_probability (mean, in nats), perplexity and token_accuracy of the wanted tokens; `text_scores` of the texts."""
        found = {}
        if self.tokens:
            nats, hits = self.nats / self.tokens, self.hits / self.tokens
            found = {"log_probability": -nats, "perplexity": math.exp(min(nats, 700.0)), "token_accuracy": hits}
        return found | text_scores.scores([text for text, _ in self.texts], [wanted for _, wanted in self.texts])


def written(
    model: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    predictions: Sequence[Any],
    longest: int,
    *,
    sources: Sequence[Sequence[int]] | None = None,
    ends: Iterable[int] = (),
    dtype: torch.dtype = torch.float32,
    beam: Beam | None = None,
) -> list[Any]:
    """The predictions with the most probable continuation of each prompt, token by token, until an end.

    Args:
        longest: of the texts that were learnt from, in bytes; a text may have twice as many tokens.
        sources: what the encoder of an encoder-decoder reads. ends: tokens that end a text, beside the tokenizer's own.
        beam: search for a text that is the most probable as a whole.

    A prompt that fills all positions of the model gets no text.
    """
    from genus.generate.engine import Engine
    from genus.generate.sampling import Sampling
    from genus.generate.sequence import Request

    room = model.spec.context or CONTEXT
    most = min(LONGEST, 2 * longest + SPARE)
    fitting = [i for i, prompt in enumerate(prompts) if len(prompt) < room]
    requests = [
        Request(
            tuple(prompts[i]),
            min(most, room - len(prompts[i])),
            Sampling(temperature=0.0),
            source=None if sources is None else tuple(sources[i]),
        )
        for i in fitting
    ]
    engine = Engine(model.eval(), tokenizer, ends, dtype)
    texts: Iterable[tuple[int, str]]
    if beam is None:
        texts = ((place, row.text) for place, _, row in engine.run(requests, AT_ONCE) if row.finish is not None)
    else:
        from genus.generate.beam import beam_search, text_of

        wide = max(1, AT_ONCE // beam.width)
        best = ((place, each[0]) for place, each in beam_search(engine, requests, beam, wide))
        texts = ((place, text_of(tokenizer, requests[place], text.ids)) for place, text in best)
    found = list(predictions)
    for place, text in texts:
        i = fitting[place]
        found[i] = (found[i] or Written(0.0, 0, 0))._replace(text=text)
    return found


@dataclass(frozen=True)
class WritingTask(Task):
    """What tasks that write texts have in common: they keep the read-out of the vocabulary."""

    primary: ClassVar[str] = "log_probability"
    added: ClassVar[tuple[str, ...]] = ("prediction",)

    def head(self, model: Model) -> TaskHead | None:
        return None

    def outputs(self, model: Any, batch: Batch, dtype: torch.dtype = torch.float32) -> list[Any]:
        return foretold(model, batch, dtype)

    def join(
        self, rows: Sequence[Record], examples: Sequence[Example], outputs: Sequence[Any], tokenizer: Tokenizer
    ) -> list[Any]:
        return joined(len(rows), examples, outputs)

    def counts(self, predictions: Sequence[Any], rows: Sequence[Record]) -> WrittenCounts:
        return WrittenCounts.of(predictions, [self.target(row) for row in rows])

    def render(self, prediction: Any) -> dict[str, Any]:
        return {"prediction": prediction.text}
