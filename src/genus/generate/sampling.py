"""Sampling: from logits to the next token of every row, each by its own rules.

Order: logit bias, penalties, constraint (`genus.generate.rules`); temperature, top-k, top-p, min-p; then one draw. Every filter
acts on the probabilities that the earlier ones left, renormalised, as in Hugging Face transformers.

Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genus.generate.rules import OUT, adjusted

if TYPE_CHECKING:
    from genus.generate.sequence import Sequence as Row

STRONGEST = 100.0  # the largest bias, as in OpenAI's API: it decides, and leaves every logit finite
NOTHING = -1  # in the place of a token
NAN = "the model's output is NaN: its weights are damaged, or --dtype bf16 is too coarse; try --dtype fp32"
SOME = 128  # tokens that are sorted at first, to find the most probable ones that reach top-p


@dataclass(frozen=True)
class Sampling:
    """How one row chooses its next token.

    Attributes:
        temperature: divides the logits; 0 = always the most probable token (the lowest id among equals).
        top_k: only the k most probable tokens; 0 = all. Tokens as probable as the k-th stay.
        top_p: the fewest most probable tokens that together reach this probability (Holtzman et al. 2020); 1 = all.
        min_p: only tokens at least this times as probable as the best (Nguyen et al. 2024); 0 = all.
        repetition_penalty: divides positive and multiplies negative logits of tokens that stand in the prompt or the new text
            (Keskar et al. 2019, as transformers' `repetition_penalty`); 1 = none. Tokens that end a text are exempt.
        frequency_penalty: taken off a token's logit as often as the new text has it (OpenAI's definition); 0 = none.
        presence_penalty: taken off once from the logit of every token that the new text has (OpenAI's definition); 0 = none.
        logit_bias: (token, number from -100 to 100) added to the token's logit before anything else.
        logprobs: None, or how many of the most probable tokens to report beside the chosen one's log-probability.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature {self.temperature} must be 0 (always the best token) or more; 1 is the model's own")
        if self.top_k < 0:
            raise ValueError(f"top-k {self.top_k} must be 0 (all tokens) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top-p {self.top_p} must be above 0 and at most 1 (all tokens)")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min-p {self.min_p} must be between 0 (all tokens) and 1")
        if not 0 < self.repetition_penalty < float("inf"):
            raise ValueError(f"repetition penalty {self.repetition_penalty} must be above 0; 1 is none, 1.2 is usual")
        for name in ("frequency", "presence"):
            value = getattr(self, f"{name}_penalty")
            if not isfinite(value):
                raise ValueError(f"{name} penalty {value} must be a number, such as 0.5; 0 is none, below 0 favours repetition")
        for token, bias in self.logit_bias:
            if not -STRONGEST <= bias <= STRONGEST:
                raise ValueError(f"the bias {bias} of token {token} must be from -100 (never) to 100 (always)")
        if self.logprobs is not None and self.logprobs < 0:
            raise ValueError(f"logprobs {self.logprobs} must be 0 (the chosen token's alone) or more")


@dataclass(frozen=True)
class Choice:
    """A token that was chosen.

    Attributes:
        id: the token. log_p: its log-probability in nats; None unless the request asks for `logprobs`. top: the most probable
            tokens in its place with theirs, best first. Both are the model's own: before bias, penalties, constraint,
            temperature and filters.
    """

    id: int
    log_p: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@torch.inference_mode()
def pick(logits_BV: Tensor, sequences: Sequence[Row]) -> list[Choice]:
    """The next token of every row, by its own rules, with its own random number. The rows do not see each other.

    Raises:
        ValueError: the model gave NaN.
    """
    rows = [s.request.sampling for s in sequences]
    uniform = [s.uniform() if s.request.sampling.temperature > 0 else 0.0 for s in sequences]
    ids = choose(adjusted(logits_BV, [s.rules for s in sequences]), rows, uniform).tolist()  # here alone a device is waited for
    if NOTHING in ids:
        raise ValueError(NAN)
    return choices(logits_BV, ids, rows)


def choices(logits_BV: Tensor, ids: Sequence[int], rows: Sequence[Sampling]) -> list[Choice]:
    """Chosen tokens with the log-probabilities that their rows ask for. `logits_BV`: as the model gave them."""
    asked = [i for i, row in enumerate(rows) if row.logprobs is not None]
    found = [Choice(number) for number in ids]
    if not asked:
        return found
    own = logits_BV[asked].float().log_softmax(-1)
    log_p = own.gather(1, torch.tensor([[ids[i]] for i in asked], device=own.device))[:, 0].tolist()
    values, tokens = (t.tolist() for t in own.topk(min(max(rows[i].logprobs or 0 for i in asked), own.shape[1])))
    for place, i in enumerate(asked):
        best = [(token, value) for token, value in zip(tokens[place], values[place]) if value > OUT]
        found[i] = Choice(ids[i], log_p[place], tuple(best[: rows[i].logprobs]))
    return found


def choose(logits_BV: Tensor, rows: Sequence[Sampling], uniform: Sequence[float]) -> Tensor:
    """(B,) the next token of every row by its temperature and filters; `NOTHING` where the model gave NaN.

    Args:
        uniform: one number in [0, 1) per row; rows with temperature 0 ignore theirs.
    """
    best = _best(logits_BV)
    warm = [i for i, row in enumerate(rows) if row.temperature > 0]
    if not warm:
        return best
    index = _sent(torch.tensor(warm), logits_BV)
    kept = _filtered(logits_BV[index], [rows[i] for i in warm])
    numbers = _sent(torch.tensor([uniform[i] for i in warm], dtype=torch.float64), logits_BV)
    drawn = best.index_copy(0, index, draw(kept.softmax(-1), numbers))
    return drawn.masked_fill_(best == NOTHING, NOTHING)


def probabilities(logits_BV: Tensor, rows: Sequence[Sampling]) -> Tensor:
    """(B, V) float64: the distribution from which `choose` draws. A row with temperature 0 has one token of probability 1.

    Raises:
        ValueError: the model gave NaN.
    """
    best = _best(logits_BV)
    if bool((best == NOTHING).any()):
        raise ValueError(NAN)
    result = torch.zeros_like(logits_BV, dtype=torch.float64).scatter_(1, best[:, None], 1.0)
    warm = [i for i, row in enumerate(rows) if row.temperature > 0]
    if warm:
        result[warm] = _filtered(logits_BV[warm], [rows[i] for i in warm]).softmax(-1, dtype=torch.float64)
    return result


def _best(logits_BV: Tensor) -> Tensor:
    """(B,) the most probable tokens; `NOTHING` where there is a NaN."""
    # NumPy's search takes a tenth of the time of torch's
    best = torch.from_numpy(logits_BV.numpy().argmax(-1)) if logits_BV.is_cpu else logits_BV.argmax(-1)
    value = logits_BV.gather(1, best[:, None])[:, 0]  # the largest of a row with NaN is NaN
    if value.is_cpu and not any(map(isnan, value.tolist())):
        return best
    return best.masked_fill_(value.isnan(), NOTHING)


def _sent(numbers: Tensor, like: Tensor) -> Tensor:
    """The same numbers where another tensor is; nobody waits for it."""
    return numbers.to(like.device, non_blocking=True)


def _filtered(logits_BV: Tensor, rows: Sequence[Sampling]) -> Tensor:
    """Logits (float32) by each row's temperature, all above 0, and filters."""

    def column(name: str, dtype: torch.dtype) -> Tensor:
        return torch.tensor([getattr(row, name) for row in rows], dtype=dtype)

    kept = logits_BV.float() / _sent(column("temperature", torch.float32), logits_BV)[:, None]
    kept = keep_top_k(kept, column("top_k", torch.int64))
    kept = keep_top_p(kept, column("top_p", torch.float64))
    return keep_min_p(kept, column("min_p", torch.float32))


def keep_top_k(logits_BV: Tensor, k_B: Tensor) -> Tensor:
    """Each row's `k` largest logits, the rest -inf. k = 0 keeps a row as it is. `k_B`: on the processor."""
    most = min(int(k_B.max()), logits_BV.shape[1])
    if most <= 0:
        return logits_BV
    k_B = _sent(k_B, logits_BV)
    best = logits_BV.topk(most, dim=-1).values
    border = best.gather(1, (k_B.clamp(1, most) - 1)[:, None])
    return logits_BV.masked_fill((logits_BV < border) & (k_B > 0)[:, None], OUT)


def keep_top_p(logits_BV: Tensor, p_B: Tensor) -> Tensor:
    """Each row's fewest most probable tokens that together reach `p`, the rest -inf. Of equals the lower id comes first.

    `p_B`: on the processor.
    """
    if bool((p_B >= 1).all()):
        return logits_BV
    p_B, size, waits = _sent(p_B, logits_BV), logits_BV.shape[1], not logits_BV.is_cpu
    total = logits_BV.double().logsumexp(-1, keepdim=True)
    some = size if waits else min(SOME, size)  # a device sorts all sooner than it tells whether some were enough
    while True:  # few tokens nearly always do, and sorting them all takes long
        best = logits_BV.topk(some).values if some < size else logits_BV.sort(descending=True).values
        likely = (best - total).exp_()
        before = likely.cumsum(-1) - likely
        if some == size or bool((before[:, -1] + likely[:, -1] >= p_B).logical_or(p_B >= 1).all()):
            break
        some = 8 * some if 8 * some <= size // 16 else size
    count = (before < p_B[:, None]).sum(-1, keepdim=True).clamp_min(1)
    border = best.gather(1, count - 1)
    keep = logits_BV > border
    equal = logits_BV == border
    wanted = count - keep.sum(-1, keepdim=True)
    if waits or bool((equal.sum(-1, keepdim=True) > wanted).any()):
        equal &= equal.cumsum(-1) <= wanted
    return logits_BV.masked_fill(~(keep | equal | (p_B >= 1)[:, None]), OUT)


def keep_min_p(logits_BV: Tensor, p_B: Tensor) -> Tensor:
    """Each row's tokens with at least `p` times the probability of its best, the rest -inf. `p_B`: on the processor."""
    if not bool((p_B > 0).any()):
        return logits_BV
    p_B = _sent(p_B, logits_BV)
    below = logits_BV - logits_BV.amax(-1, keepdim=True)
    return logits_BV.masked_fill(below < p_B.log()[:, None], OUT)


def draw(probs_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """(B,) token ids by inverse transform: the first token whose cumulative probability exceeds the row's number in [0, 1).

    The rows of `probs_BV` need not sum to 1.
    """
    cumulative = probs_BV.cumsum(-1, dtype=torch.float64)
    ids = torch.searchsorted(cumulative, uniform_B[:, None] * cumulative[:, -1:], right=True).clamp_(max=probs_BV.shape[1] - 1)
    if not probs_BV.is_cpu or bool((probs_BV.gather(1, ids) <= 0).any()):
        # rounding may carry the last draw past the last token that has any probability
        last = (probs_BV > 0).long() * torch.arange(probs_BV.shape[1], device=probs_BV.device)
        ids = torch.minimum(ids, last.amax(-1, keepdim=True))
    return ids[:, 0]
