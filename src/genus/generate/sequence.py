"""Request: what is asked for one row. Sequence: that row while it grows."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from genus.generate.sampling import Sampling
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
    """

    ids: tuple[int, ...]
    max_tokens: int = 256
    sampling: Sampling = Sampling()
    seed: int = 0
    stop: tuple[str, ...] = ()
    source: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.ids:
            raise ValueError("a prompt needs at least one token; begin with the tokenizer's bos_id")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens {self.max_tokens} must be at least 1")


class Sequence:
    """A row being generated.

    Attributes:
        request: what was asked. ids: prompt and new tokens. text: the new text that is certain.
        finish: None while it grows; then "end" (the model ended its document), "stop" (a stop string) or "length".
        first: index of the first token that the model still sees; above 0 once a limited context has moved on.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer, ends: frozenset[int]) -> None:
        self.request = request
        self.ids = list(request.ids)
        self.text = ""
        self.finish: str | None = None
        self.first = 0
        self._ends = ends
        self._random = torch.Generator().manual_seed(request.seed)
        self._decoder = tokenizer.stream()
        for number in request.ids[-CONTEXT:]:
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

    def push(self, number: int) -> str:
        """Add a token. Returns the text that has become certain, often nothing."""
        self.ids.append(number)
        if number in self._ends:
            self.finish = "end"
            piece = self._stop.push(self._decoder.finish())
        else:
            piece = self._stop.push(self._decoder.push(number))
            if not self.remaining and self._stop.found is None:
                self.finish = "length"
                piece += self._stop.push(self._decoder.finish())
        if self._stop.found is not None:
            self.finish = "stop"
        elif self.finish is not None:
            piece += self._stop.finish()
        self.text += piece
        return piece
