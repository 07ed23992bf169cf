"""Request: what is asked for one row. Sequence: that row while it grows."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from genus.generate.constraint import Constraint
from genus.generate.rules import Rules
from genus.generate.sampling import Choice, Sampling
from genus.generate.stop import Stop
from genus.modalities.text import Tokenizer

CONTEXT = 8  # prompt tokens that the decoder of the new text is shown: some write a first token's leading space differently


@dataclass(frozen=True)
class Request:
    """One text to continue.

    Attributes:
        ids: the prompt, begin-of-document token included; at least one. max_tokens: most tokens to add.
        seed: of this row's own random numbers, which no other row shares. stop: strings that end the text and are left out.
        source: the tokens that an encoder-decoder's encoder reads, end token included; None for other models.
        constraint: what the new text must look like.
    """

    ids: tuple[int, ...]
    max_tokens: int = 256
    sampling: Sampling = Sampling()
    seed: int = 0
    stop: tuple[str, ...] = ()
    source: tuple[int, ...] | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        if not self.ids:
            raise ValueError("a prompt needs at least one token; begin with the tokenizer's bos_id")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens {self.max_tokens} must be at least 1")


class Sequence:
    """A row being generated.

    Attributes:
        request: what was asked. ids: prompt and new tokens. choices: the new tokens, as they were chosen.
        text: the new text that is certain.
        finish: None while it grows; then "end" (the model ended its document, or its constraint leaves nothing to add), "stop"
            (a stop string), "length" (no room for more; or, under a constraint, no token of the vocabulary that could follow),
            or what `close` was told.
        first: index of the first token that the model still sees; above 0 once a limited context has moved on.
        rules: what changes its logits before a token is drawn.

    Raises:
        ValueError: a biased token is not in the vocabulary, or the constraint cannot be followed with this tokenizer.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer, ends: frozenset[int]) -> None:
        for token, _ in request.sampling.logit_bias:
            if not 0 <= token < tokenizer.vocab_size:
                raise ValueError(f"logit bias: there is no token {token}, the vocabulary has {tokenizer.vocab_size}")
        guide = None if request.constraint is None else request.constraint.guide(tokenizer, ends)
        self.request = request
        self.ids = list(request.ids)
        self.choices: list[Choice] = []
        self.text = ""
        self.finish: str | None = None
        self.first = 0
        self.rules = Rules(request.sampling, request.ids, ends, guide)
        self._ends = ends
        self._random = torch.Generator().manual_seed(request.seed)
        self._decoder = tokenizer.stream()
        # A constraint speaks of a text by itself, so its first token is written as the first of a text.
        for number in request.ids[-CONTEXT:] if guide is None else ():
            self._decoder.push(number)
        self._stop = Stop(request.stop)

    @property
    def new_ids(self) -> list[int]:
        """The tokens that were added, an end token included."""
        return self.ids[len(self.request.ids) :]

    @property
    def visible(self) -> list[int]:
        """The tokens that the model sees."""
        return self.ids[self.first :]

    @property
    def remaining(self) -> int:
        """Tokens that may still be added."""
        return len(self.request.ids) + self.request.max_tokens - len(self.ids)

    def uniform(self) -> float:
        """This row's next random number in [0, 1)."""
        return torch.rand((), generator=self._random, dtype=torch.float64).item()

    def push(self, choice: Choice | int) -> str:
        """Add a token. Returns the text that has become certain, often nothing."""
        choice = Choice(choice) if isinstance(choice, int) else choice
        self.ids.append(choice.id)
        self.choices.append(choice)
        self.rules.push(choice.id)
        piece, guide = "", self.rules.guide
        if choice.id in self._ends:
            self.finish = "end" if guide is None or guide.complete else "length"
        else:
            piece = self._stop.push(self._decoder.push(choice.id))
            if guide is not None and guide.over:
                self.finish = "end"
            elif not self.remaining:
                self.finish = "length"
        if self.finish is not None:
            piece += self._stop.push(self._decoder.finish())
        if self._stop.found is not None:
            self.finish = "stop"
        elif self.finish is not None:
            piece += self._stop.finish()
        self.text += piece
        return piece

    def close(self, reason: str) -> str:
        """Cut it here, from outside: `finish` becomes the reason. Returns the text that was held back."""
        self.finish = reason
        piece = self._stop.push(self._decoder.finish()) + self._stop.finish()
        self.text += piece
        return piece
