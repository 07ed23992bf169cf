"""Speculative decoding: a small model proposes tokens, the large one checks them all in one pass (Leviathan et al. 2023).

A proposed token x, drawn from the small model's distribution q, is kept with probability min(1, p(x) / q(x)), where p is the
large model's; the first that is not kept is replaced by one drawn from max(0, p - q), normalised (Algorithm 1). So every token
has the distribution p, whatever the small model is worth: a good one saves passes, a bad one wastes them. p and q are what a
token is drawn from, after penalties, constraint, temperature and filters. At temperature 0 the text is the greedy text.

Any model with the same tokenizer can propose: a smaller run, or an n-gram run, whose proposals cost next to nothing.

Shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from genus.generate.engine import Engine
from genus.generate.prefill import Prefill
from genus.generate.rules import adjusted
from genus.generate.sampling import Choice, choices, draw, probabilities
from genus.generate.sequence import Sequence as Row
from genus.generate.slots import Slots
from genus.generate.state import State, restore, rows_of, snapshot

CHUNK = 512  # prompt tokens that the draft reads at once, about


def accept(p_TV: Tensor, q_TV: Tensor, ids: Sequence[int], uniform: Callable[[], float]) -> list[int]:
    """The tokens that the large model makes of a proposal: those that are kept, and one more.

    Args:
        p_TV: (len(ids) + 1, V) its distribution at every place of the proposal and behind it. q_TV: (len(ids), V) what the
            proposed tokens `ids` were drawn from. uniform: gives the next random number in [0, 1).
    """
    for place, token in enumerate(ids):
        if uniform() * float(q_TV[place, token]) < float(p_TV[place, token]):
            continue
        rest = (p_TV[place] - q_TV[place]).clamp_min_(0)
        return [*ids[:place], _one(rest if bool(rest.any()) else p_TV[place], uniform)]
    return [*ids, _one(p_TV[len(ids)], uniform)]


def agreed(best: Sequence[int], ids: Sequence[int]) -> list[int]:
    """The same where the large model always takes its most probable token: `best`, in every place of the proposal and behind."""
    kept = next((place for place, token in enumerate(ids) if token != best[place]), len(ids))
    return list(best[: kept + 1])


@dataclass
class _Proposal:
    """Tokens for one row. `q`: the distributions that they were drawn from; none at temperature 0."""

    ids: list[int] = field(default_factory=list)
    q: list[Tensor] = field(default_factory=list)


class Speculative:
    """The rows of a scheduler, decoded with a draft model.

    A row that outgrows the draft's table of positions goes on without proposals.

    Args:
        draft: the small model; its tokenizer must be the large one's. tokens: how many it proposes at a time.

    Attributes:
        proposed, kept: tokens so far.
    """

    spare = 0  # no more is proposed than may be added

    def __init__(self, draft: Engine, tokens: int = 4) -> None:
        if tokens < 1:
            raise ValueError(f"a draft of {tokens} tokens is none; propose at least 1")
        self.proposed = self.kept = 0
        self._draft, self._tokens = draft, tokens
        self._check(draft)
        self._slots = Slots(draft.layout, 2**31, draft.limit)
        self._read: list[int] = []  # how many tokens of each row the draft's state holds
        self._room = 0  # positions of a row that were asked for, at most

    def join(self, sequences: Sequence[Row]) -> None:
        """These are the new last rows. The draft reads what they hold but for their last token."""
        sourced = getattr(self._draft.model.spec, "encoder", None) is not None
        prompts = [(tuple(s.ids[:-1] if self._fits(s, 0) else ()), s.request.source if sourced else None) for s in sequences]
        room = max(len(s.request.ids) + s.request.max_tokens for s in sequences)
        self._room = max(self._room, room if self._draft.limit is None else min(room, self._draft.limit))
        prefill = Prefill(self._draft, prompts, None)
        while prefill.left:
            prefill.advance(CHUNK)
        self._slots.add(prefill.slots.state, range(len(prompts)), self._room)
        self._read += [len(ids) for ids, _ in prompts]

    def leave(self, row: int) -> None:
        """A row left, and the last one took its place."""
        self._slots.remove(row)
        self._read[row] = self._read[-1]
        self._read.pop()

    def step(self, engine: Engine, state: State, sequences: Sequence[Row]) -> list[list[Choice]]:
        """The next tokens of every row, at least one. `state` then holds all of them but the last.

        Raises:
            ValueError: more tokens are proposed at a time than can be taken back.
        """
        self._check(engine)
        proposals, states = self._propose(engine, sequences)
        held = snapshot(state)
        reading = [[s.ids[-1], *each.ids] for s, each in zip(sequences, proposals)]
        logits = engine.read(reading, state, every=True)[:, :, : engine.tokenizer.vocab_size]
        result = []
        for s, each, logits_TV in zip(sequences, proposals, logits):
            ids = _checked(s, each, logits_TV[: len(each.ids) + 1])
            result.append(choices(logits_TV[: len(ids)], ids, [s.request.sampling] * len(ids)))
            self.proposed += len(each.ids)
            self.kept += len(ids) - 1
        engine.rewind(state, held, [row[: len(found)] for row, found in zip(reading, result)])
        self._follow(states, sequences, proposals, result)
        return result

    def _check(self, engine: Engine) -> None:
        if engine.back is not None and self._tokens >= engine.back:
            raise ValueError(
                f"{self._tokens} tokens cannot be proposed at a time: where a layer sees a window of the text, only the last "
                f"{engine.back} positions can be taken back; propose at most {engine.back - 1}"
            )

    def _propose(self, engine: Engine, sequences: Sequence[Row]) -> tuple[list[_Proposal], list[State]]:
        """A proposal for each row, and the draft's state before and after every token that it read."""
        wanted = [self._count(engine, s) for s in sequences]
        rules = [s.rules.copy() if count else s.rules for s, count in zip(sequences, wanted)]
        proposals = [_Proposal() for _ in sequences]
        going = [row for row, count in enumerate(wanted) if count]
        size = engine.tokenizer.vocab_size
        states = [snapshot(self._slots.state)]
        while going:
            reading: list[list[int]] = [[] for _ in sequences]
            for row in going:
                reading[row] = proposals[row].ids[-1:] or sequences[row].ids[self._read[row] :]
            logits = self._draft.read(reading, self._slots.state)[going, :size]
            states.append(snapshot(self._slots.state))
            logits = adjusted(logits, [rules[row] for row in going])
            found = _drawn(logits, [sequences[row] for row in going])
            for row, (token, q) in zip(going, found):
                proposals[row].ids.append(token)
                if q is not None:
                    proposals[row].q.append(q)
                rules[row].push(token)
                guide = rules[row].guide
                if token in engine.ends or (guide is not None and guide.over):
                    wanted[row] = 0
            going = [row for row in going if len(proposals[row].ids) < wanted[row]]
        return proposals, states

    def _count(self, engine: Engine, sequence: Row) -> int:
        """How many tokens to propose: no more than can be added, and than both models have positions for."""
        count = min(self._tokens, sequence.remaining - 1)
        if engine.limit is not None:
            count = min(count, engine.limit - len(sequence.visible))
        return count if self._fits(sequence, count) else 0

    def _fits(self, sequence: Row, count: int) -> bool:
        return self._draft.limit is None or len(sequence.ids) + count <= self._draft.limit

    def _follow(
        self, states: list[State], sequences: Sequence[Row], proposals: Sequence[_Proposal], result: Sequence[Sequence[Choice]]
    ) -> None:
        """Bring the draft's state to what was kept, but for the token that each row ends with now."""
        restore(self._slots.state, rows_of(states, [min(len(each.ids), len(found)) for each, found in zip(proposals, result)]))
        missing = [each.ids[-1:] if len(found) > len(each.ids) else [] for each, found in zip(proposals, result)]
        if any(missing):  # the last token of a proposal has not been read
            self._draft.read(missing, self._slots.state)
        for row, (s, each, found) in enumerate(zip(sequences, proposals, result)):
            if each.ids:
                self._read[row] = len(s.ids) + len(found) - 1


def _drawn(logits_BV: Tensor, rows: Sequence[Row]) -> list[tuple[int, Tensor | None]]:
    """A token for every row, and the distribution that it was drawn from where it was drawn."""
    best = logits_BV.argmax(-1).tolist()
    found: list[tuple[int, Tensor | None]] = [(token, None) for token in best]
    warm = [i for i, row in enumerate(rows) if row.request.sampling.temperature > 0]
    if warm:
        q_BV = probabilities(logits_BV[warm], [rows[i].request.sampling for i in warm])
        uniform = torch.tensor([rows[i].uniform() for i in warm], dtype=torch.float64, device=q_BV.device)
        for i, token, q in zip(warm, draw(q_BV, uniform).tolist(), q_BV):
            found[i] = token, q
    return found


def _checked(sequence: Row, proposal: _Proposal, logits_TV: Tensor) -> list[int]:
    """The tokens that a proposal leads to."""
    rules, sampling = sequence.rules, sequence.request.sampling
    if rules.active:
        logits_TV, rules = logits_TV.clone(), rules.copy()
        for place in range(len(logits_TV)):
            rules.adjust(logits_TV[place])
            if place < len(proposal.ids):
                rules.push(proposal.ids[place])
    if sampling.temperature == 0:
        return agreed(logits_TV.argmax(-1).tolist(), proposal.ids)
    p_TV = probabilities(logits_TV, [sampling] * len(logits_TV))
    return accept(p_TV, torch.stack(proposal.q) if proposal.q else p_TV[:0], proposal.ids, sequence.uniform)


def _one(weights_V: Tensor, uniform: Callable[[], float]) -> int:
    number = torch.tensor([uniform()], dtype=torch.float64, device=weights_V.device)
    return int(draw(weights_V[None], number))
