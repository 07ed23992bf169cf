"""From what a client asks to the requests of the engine, and the texts that come back."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genus.serve.asked import ResponseFormat, Writing
from genus.serve.errors import invalid, named
from genus.serve.served import Served
from genus.serve.settings import Limits

if TYPE_CHECKING:
    from genus.generate.constraint import Constraint
    from genus.generate.sampling import Choice, Sampling
    from genus.generate.scheduler import Event
    from genus.generate.sequence import Request

FINISH = {"end": "stop", "stop": "stop", "length": "length", "deadline": "length", "cancelled": "length"}
"""OpenAI's words for why a text ended. A text that the time limit cut is one that was too long."""


@dataclass(frozen=True)
class Prompt:
    """What is read for a text: the ids that it continues, or a source beside them. `text`: what its seed depends on."""

    ids: tuple[int, ...]
    text: str
    source: tuple[int, ...] | None = None

    @property
    def length(self) -> int:
        """Tokens that are read."""
        return len(self.ids if self.source is None else self.source)


def check_length(prompt: Prompt, served: Served, limits: Limits, param: str) -> None:
    """Raises Refused: the prompt is longer than the server, or the model, can read."""
    most = min(limits.prompt, served.limit or limits.prompt)
    if prompt.length > most:
        message = f"this has {prompt.length:,} tokens and the model {served.entry.name!r} reads at most {most:,}; shorten it"
        raise invalid(message, param, "context_length_exceeded")


def most_tokens(asked: int | None, usual: int, limits: Limits, param: str) -> int:
    """How many tokens a text may have.

    Raises:
        Refused: more are asked for than the server writes.
    """
    if asked is not None and asked > limits.tokens:
        raise invalid(f"{asked:,} is more than this server writes for one text ({limits.tokens:,})", param, "too_many_tokens")
    return min(usual, limits.tokens) if asked is None else asked


def sampling(asked: Writing, usual: float, logprobs: int | None) -> Sampling:
    """The rules by which tokens are chosen. `usual`: the temperature where none is asked for."""
    from genus.generate.sampling import Sampling

    return Sampling(
        temperature=usual if asked.temperature is None else asked.temperature,
        top_k=asked.top_k or 0,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        min_p=asked.min_p or 0.0,
        repetition_penalty=1.0 if asked.repetition_penalty is None else asked.repetition_penalty,
        frequency_penalty=asked.frequency_penalty or 0.0,
        presence_penalty=asked.presence_penalty or 0.0,
        logit_bias=asked.bias,
        logprobs=logprobs,
    )


async def constraint(form: ResponseFormat | None, served: Served) -> Constraint | None:
    """What the text must look like, compiled.

    Raises:
        Refused: the schema or the pattern is wrong, or says something that cannot be enforced.
    """
    from genus.generate.constraint import Constraint

    if form is None or form.type == "text":
        return None
    with named("response_format"):
        if form.type == "regex":
            found = Constraint.regex(form.pattern or "")
        else:
            schema = form.json_schema.schema_ if form.json_schema is not None else None
            found = Constraint.json({"type": "object"} if schema is None else schema)
    return await compiled(found, served, "response_format")


async def compiled(found: Constraint, served: Served, param: str) -> Constraint:
    """The same constraint, made ready outside of the model's thread, so that texts go on meanwhile."""
    with named(param):
        await asyncio.to_thread(found.guide, served.tokenizer, served.ends)
    return found


def requests(
    asked: Writing, prompts: Sequence[Prompt], number: int, tokens: int, rules: Sampling, form: Constraint | None = None
) -> list[Request]:
    """One request for each text: prompt by prompt, `number` of each.

    A text depends on the seed, its prompt and its number alone; without a seed, on chance.
    """
    from genus.generate.sequence import Request
    from genus.generate.texts import row_seed

    seed = secrets.randbits(62) if asked.seed is None else asked.seed
    return [
        Request(prompt.ids, tokens, rules, row_seed(seed, prompt.text, sample), asked.stops, prompt.source, form)
        for prompt in prompts
        for sample in range(number)
    ]


def check_bias(asked: Writing, served: Served) -> None:
    """Raises Refused: a bias for a token that is not there."""
    size = served.tokenizer.vocab_size
    strange = next((token for token, _ in asked.bias if token >= size), None)
    if strange is not None:
        raise invalid(f"there is no token {strange}; the model {served.entry.name!r} has {size:,}", "logit_bias")


def check_count(count: int, limits: Limits, param: str) -> None:
    """Raises Refused: more texts than one request may ask for."""
    if count > limits.choices:
        raise invalid(f"{count} texts are more than one request may ask for ({limits.choices})", param, "too_many_texts")


@dataclass
class Text:
    """A text as far as it has come. `choices`: its tokens. `pending`: those of them that nobody was told of yet."""

    text: str = ""
    choices: list[Choice] = field(default_factory=list)
    pending: list[Choice] = field(default_factory=list)
    finish: str | None = None

    def take(self, event: Event) -> None:
        self.text += event.piece
        self.choices += event.choices
        self.pending += event.choices
        self.finish = event.finish

    def told(self, ends: frozenset[int]) -> list[Choice]:
        """The pending tokens, which are no longer pending; a token that ends a text is not shown."""
        shown = [choice for choice in self.pending if choice.id not in ends]
        self.pending = []
        return shown

    @property
    def mean_log_p(self) -> float:
        """Per token."""
        found = [choice.log_p for choice in self.choices if choice.log_p is not None]
        return sum(found) / len(found) if found else float("-inf")


def usage(prompts: Sequence[Prompt], written: int) -> dict[str, Any]:
    """Counted tokens: each prompt once, however many texts were written for it."""
    read = sum(prompt.length for prompt in prompts)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
