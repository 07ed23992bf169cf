"""What a task that writes text has of a row: how well the model foretells the wanted text, and the text that it writes itself.

Shapes: B rows, T positions, D width, N targets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from genus.objectives.batch import Batch
from genus.ops.cross_entropy import IGNORE
from genus.parts.ctx import PADDING
from genus.tune import text_scores
from genus.tune.task import Example

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

ROWS = 512  # targets scored at once: bounds the logits held in memory
AT_ONCE = 16  # texts written together
CONTEXT = 2048  # positions of a model that has no limit
LONGEST = 512  # tokens of a text


class Written(NamedTuple):
    """What a model makes of a row.

    Attributes:
        nats: -log probability of the wanted text. hits: its tokens that were the most probable ones. count: its tokens.
        text: what the model writes; None where it was not asked.
    """

    nats: float
    hits: int
    count: int
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


def score(predictions: Sequence[Any], wanted: Sequence[str]) -> dict[str, float]:
    """Of the wanted tokens: log_probability (mean, in nats), perplexity and token_accuracy; of written texts, `text_scores`."""
    there = [(p, w) for p, w in zip(predictions, wanted, strict=True) if p is not None]
    count = sum(p.count for p, _ in there)
    found = {}
    if count:
        nats = sum(p.nats for p, _ in there) / count
        hits = sum(p.hits for p, _ in there)
        found = {"log_probability": -nats, "perplexity": math.exp(min(nats, 700.0)), "token_accuracy": hits / count}
    written = [(p.text, w) for p, w in there if p.text is not None and w]
    return found | text_scores.scores([text for text, _ in written], [w for _, w in written])


def continued(
    model: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    predictions: Sequence[Any],
    ends: Iterable[int],
    dtype: torch.dtype,
) -> list[Any]:
    """The predictions with the most probable continuation of each prompt, token by token, until one of `ends`.

    A prompt that fills all positions of the model gets no text.
    """
    from genus.generate.engine import Engine
    from genus.generate.sampling import Sampling
    from genus.generate.sequence import Request

    room = model.spec.context or CONTEXT
    fitting = [i for i, prompt in enumerate(prompts) if len(prompt) < room]
    greedy = Sampling(temperature=0.0)
    requests = [Request(tuple(prompts[i]), min(LONGEST, room - len(prompts[i])), greedy) for i in fitting]
    found = list(predictions)
    for place, _, row in Engine(model.eval(), tokenizer, ends, dtype).run(requests, AT_ONCE):
        if row.finish is not None:
            i = fitting[place]
            found[i] = (found[i] or Written(0.0, 0, 0))._replace(text=row.text)
    return found


@torch.inference_mode()
def rewritten(
    model: Any, tokenizer: Tokenizer, sources: Sequence[Sequence[int]], predictions: Sequence[Any], dtype: torch.dtype
) -> list[Any]:
    """The predictions with the most probable target of each source, token by token, of an encoder-decoder."""
    model.eval()
    device = next(model.parameters()).device
    found = list(predictions)
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    for at in range(0, len(order), AT_ONCE):
        rows = order[at : at + AT_ONCE]
        source = padded([sources[i] for i in rows], PADDING).to(device)
        doc = torch.where(source == PADDING, PADDING, 0)
        for i, ids in zip(rows, _targets(model, tokenizer, source.clamp(min=0), doc, dtype), strict=True):
            found[i] = (found[i] or Written(0.0, 0, 0))._replace(text=tokenizer.decode(ids))
    return found


def _targets(model: Any, tokenizer: Tokenizer, source: Tensor, source_doc: Tensor, dtype: torch.dtype) -> list[list[int]]:
    most = min(LONGEST, model.spec.context or LONGEST, 2 * source.shape[1] + 32)
    state = model.init_state(len(source), most, dtype, source.device)
    given: dict[str, Tensor] = {"source": source, "source_doc": source_doc}
    token = torch.full((len(source), 1), tokenizer.bos_id, device=source.device)
    texts: list[list[int]] = [[] for _ in source]
    alive = set(range(len(source)))
    for _ in range(most):
        hidden = model.hidden(token, state=state, dtype=dtype, **given)
        token = model.head(hidden[:, -1:])[..., : tokenizer.vocab_size].argmax(-1)
        given = {}
        for i in list(alive):
            number = int(token[i, 0])
            if number == tokenizer.eos_id:
                alive.discard(i)
            else:
                texts[i].append(number)
        if not alive:
            break
    return texts


def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """(B, longest), filled up on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])
