"""Log-probabilities of tokens as OpenAI's two interfaces show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from genus.generate.token_bytes import token_bytes

if TYPE_CHECKING:
    from genus.generate.sampling import Choice
    from genus.modalities.text import Tokenizer

IMPOSSIBLE = -9999.0  # what OpenAI shows for a probability of 0, which JSON has no number for


class Spelling:
    """What each token of a vocabulary writes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        try:
            self._bytes: tuple[bytes, ...] | None = token_bytes(tokenizer).later
        except ValueError:  # what a token writes depends on its neighbours
            self._bytes = None

    def bytes(self, number: int) -> bytes:
        """Of UTF-8; a token may hold a part of a character."""
        found = self._bytes[number] if self._bytes is not None else self._tokenizer.decode([number]).encode()
        return found or (self._tokenizer.token(number) or "").encode()

    def text(self, number: int) -> str:
        """As text; what is no whole character as OpenAI writes it, such as `bytes:\xe4\xbd`."""
        found = self.bytes(number)
        try:
            return found.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in found)


def of_chat(spelling: Spelling, choices: Sequence[Choice]) -> dict[str, Any]:
    """`logprobs` of a chat's choice."""

    def shown(number: int, log_p: float | None) -> dict[str, Any]:
        return {"token": spelling.text(number), "logprob": _number(log_p), "bytes": list(spelling.bytes(number))}

    content = [
        shown(choice.id, choice.log_p) | {"top_logprobs": [shown(number, log_p) for number, log_p in choice.top]}
        for choice in choices
    ]
    return {"content": content, "refusal": None}


def of_completion(spelling: Spelling, choices: Sequence[Choice], start: int = 0, top: bool = True) -> dict[str, Any]:
    """`logprobs` of a completion's choice. `start`: of the first token, in characters; `top`: whether the best were asked for."""
    offsets, read = [], b""
    for choice in choices:
        offsets.append(start + len(read.decode(errors="ignore")))
        read += spelling.bytes(choice.id)
    tops = [
        None if choice.log_p is None else {spelling.text(number): _number(log_p) for number, log_p in reversed(choice.top)}
        for choice in choices
    ]
    return {
        "tokens": [spelling.text(choice.id) for choice in choices],
        "token_logprobs": [None if choice.log_p is None else _number(choice.log_p) for choice in choices],
        "top_logprobs": tops if top else None,
        "text_offset": offsets,
    }


def _number(log_p: float | None) -> float:
    return IMPOSSIBLE if log_p is None or log_p < IMPOSSIBLE else log_p
