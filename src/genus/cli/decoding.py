"""Options that every command shares that makes text: how a token is chosen, and what the text must look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from genus.generate.constraint import Constraint
    from genus.generate.sampling import Sampling
    from genus.generate.texts import Generator
    from genus.modalities.text import Tokenizer

SMALL = 8_000_000  # parameters times rows below which decoding uses one thread


@dataclass(frozen=True)
class Choosing:
    """How a token is chosen. The rules work in this order, and each on what the one before it left."""

    logit_bias: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """TOKEN=NUMBER, added to its logit: -100 bans it, 100 forces it. TOKEN is an id, or a text that is one token (" the")."""
    repetition_penalty: float = 1.0
    """Divides the positive logits of tokens that prompt or text have, and multiplies the negative ones; 1 = off, 1.2 is usual."""
    frequency_penalty: float = 0.0
    """Taken off a token's logit as often as the new text has it; 0 = off."""
    presence_penalty: float = 0.0
    """Taken off a token's logit once, if the new text has it; 0 = off."""
    temperature: float | None = None
    """Divides the logits: 0 = always the most probable token, 1 = the model's own probabilities. Default 0.8; 0 for a source."""
    top_k: int = 0
    """Choose among the k most probable tokens; 0 = all."""
    top_p: float = 1.0
    """Choose among the fewest tokens that together have this probability."""
    min_p: float = 0.0
    """Choose among tokens at least this times as probable as the best."""
    seed: int = 0
    """Of the random choices."""

    def sampling(self, tokenizer: Tokenizer | None, temperature: float, logprobs: int | None = None) -> Sampling:
        """As the engine takes it. `temperature`: where none was asked for."""
        from genus.generate.sampling import Sampling

        return Sampling(
            temperature if self.temperature is None else self.temperature,
            self.top_k,
            self.top_p,
            self.min_p,
            self.repetition_penalty,
            self.frequency_penalty,
            self.presence_penalty,
            biases(tokenizer, self.logit_bias),
            logprobs,
        )


@dataclass(frozen=True)
class Form:
    """What the text must look like, token by token; at most one of these."""

    json_schema: Path | None = None
    """JSON in one line that is valid under the schema in this file."""
    regex: str | None = None
    """A text that matches this regular expression from its beginning to its end (Rust's syntax: no look-around)."""
    choice: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """One of these texts; give the option once for each."""

    def constraint(self) -> Constraint | None:
        """None where nothing was asked for.

        Raises:
            ValueError: two at once, or one that makes no sense. OSError: the file cannot be read.
        """
        asked = [name for name, value in vars(self).items() if value not in (None, ())]
        if not asked:
            return None
        if len(asked) > 1:
            both = " and ".join("--" + name.replace("_", "-") for name in asked)
            raise ValueError(f"{both} cannot both hold; give one of them")
        from genus.generate.constraint import Constraint

        if self.json_schema is not None:
            try:
                return Constraint.json(self.json_schema.read_text(encoding="utf-8-sig"))
            except ValueError as error:
                raise ValueError(f"{self.json_schema}: {error}") from error
        return Constraint.choice(self.choice) if self.regex is None else Constraint.regex(self.regex)


def biases(tokenizer: Tokenizer | None, asked: Sequence[str]) -> tuple[tuple[int, float], ...]:
    """`TOKEN=NUMBER` as token ids and numbers.

    Raises:
        ValueError: no number, or a text of several tokens.
    """
    found: dict[int, float] = {}
    for each in asked:
        name, equals, value = each.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not equals or not name or number != number:
            raise ValueError(f"--logit-bias {each!r}: write TOKEN=NUMBER, such as --logit-bias ' the=-100' or --logit-bias 262=5")
        if name.isascii() and name.isdigit():
            found[int(name)] = number
            continue
        ids = [] if tokenizer is None else tokenizer.encode(unescaped(name), special=True)
        if len(ids) != 1:
            raise ValueError(
                f"--logit-bias {each!r}: {name!r} is {len(ids)} tokens to this model, {ids}; give one token, or an id"
            )
        found[ids[0]] = number
    return tuple(found.items())


def unescaped(text: str) -> str:
    r"""A text with \n and \t for a line end and a tab."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def fit_threads(generator: Generator, rows: int) -> None:
    """One thread for a small model: its products take less time than waking a second thread for each."""
    import torch

    if rows * sum(p.numel() for p in generator.loaded.model.parameters()) < SMALL:
        torch.set_num_threads(1)
