"""Log-probabilities of the tokens of a prompt: what evaluation harnesses ask for with `echo`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from genus.generate.sampling import Choice
from genus.serve.served import Served

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 128  # positions whose probabilities over the vocabulary are computed at once


async def read(served: Served, ids: tuple[int, ...], top: int) -> list[Choice]:
    """The tokens of a prompt with their log-probabilities, and the `top` most probable at each place.

    The first has none, as in OpenAI's interface, unless it is the mark of a document's beginning: that is not shown.
    """
    state: dict[str, Any] = {}
    found = [Choice(ids[0], None, ())]
    for start in range(0, len(ids) - 1, CHUNK):
        found += await served.worker.call(lambda start=start: _chunk(served, ids, start, top, state))  # type: ignore[misc]
    first = served.tokenizer.bos_id in ids[:1] and len(ids) > 1
    return found[1:] if first else found


@torch.inference_mode()
def _chunk(served: Served, ids: tuple[int, ...], start: int, top: int, state: dict[str, Any]) -> list[Choice]:
    """The tokens after positions `start` ... of the prompt. `state`: what the model remembers from chunk to chunk."""
    model, dtype = served.loaded.model, served.dtype
    device = next(iter([*model.parameters(), *model.buffers()])).device
    if not state:
        state.update(model.init_state(1, len(ids), dtype, device))
    part = torch.tensor([ids[start : start + CHUNK]], device=device)
    targets = ids[start + 1 : start + 1 + CHUNK]
    log_p = model(part, state=state, dtype=dtype)[0, : len(targets), : served.tokenizer.vocab_size].float().log_softmax(-1)
    return list(_choices(log_p, targets, top))


def _choices(log_p_TV: Tensor, targets: tuple[int, ...], top: int) -> Iterator[Choice]:
    own = log_p_TV[torch.arange(len(targets)), torch.tensor(targets, device=log_p_TV.device)].tolist()
    best = log_p_TV.topk(min(top, log_p_TV.shape[1]), dim=-1)
    for target, p, tokens, values in zip(targets, own, best.indices.tolist(), best.values.tolist()):
        yield Choice(target, p, tuple(zip(tokens, values)))
