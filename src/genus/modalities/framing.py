"""Tokens of words and of long contexts, with the way back: which word, or which characters, a token stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

OVERLAP = 128  # tokens that two windows share at most (Devlin et al. 2019, their code)
QUESTION = 64  # tokens of a question that are read (the same)


class Window(NamedTuple):
    """A question with a stretch of its context.

    Attributes:
        ids, types: as `Tokenizer.frame` gives them. places: for each token of the context its characters (first, one after the
            last) in the whole context; None for other tokens.
    """

    ids: list[int]
    types: list[int]
    places: list[tuple[int, int] | None]


def frame_many(tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], limit: int) -> list[tuple[list[int], list[int], bool]]:
    """`Tokenizer.frame` of many texts or pairs, on all threads; and whether each had to be cut to `limit` ids."""
    core = tokenizer.plain
    given = [text[0] if len(text) == 1 else text for text in texts]
    made = []
    for text, framed in zip(texts, core.encode_batch(given), strict=True):
        if len(framed) > limit:
            ids, types = tokenizer.frame(text[0], text[1] if len(text) > 1 else None, limit)
            made.append((ids, types, True))
        else:
            made.append((framed.ids, framed.type_ids if len(text) > 1 else [], False))
    return made


def frame_words(tokenizer: Tokenizer, words: Sequence[str], limit: int) -> tuple[list[int], list[int], list[int | None]]:
    """Ids, segment types, and the number of the word that each token belongs to (None for what the tokenizer puts around).

    Every word has a token of its own, also one that the tokenizer would leave out. Words that do not fit are left off, but the
    first is always there, cut if need be.
    """
    core = tokenizer.plain
    room = max(1, limit - core.num_special_tokens_to_add(False))
    spelt = [word if i == 0 or _together(words[i - 1], word) else f" {word}" for i, word in enumerate(words[:room])]
    encodings = core.encode_batch(spelt, add_special_tokens=False)
    kept: list[int] = []
    owner: list[int | None] = []
    missing = tokenizer.id(str(tokenizer.config.get("unk_token"))) or tokenizer.eos_id
    for number, encoding in enumerate(encodings):
        pieces = encoding.ids[: room if number == 0 else None] or [missing]
        if len(kept) + len(pieces) > room:
            break
        kept += pieces
        owner += [number] * len(pieces)
    before, after = _around(tokenizer)
    ids = [*before, *kept, *after]
    return ids, [0] * len(ids), [*[None] * len(before), *owner, *[None] * len(after)]


def windows(tokenizer: Tokenizer, question: str, context: str, limit: int) -> list[Window]:
    """The question with each of the overlapping stretches into which the context must be cut; at least one.

    A question is read up to QUESTION tokens.

    Raises:
        ValueError: the limit leaves no room for the context.
    """
    core = tokenizer.plain
    asked = core.encode(question, add_special_tokens=False)
    asked.truncate(QUESTION)
    room = limit - core.num_special_tokens_to_add(True) - len(asked.ids)
    if room < 1:
        raise ValueError(f"{limit} positions leave no room for a context beside a question; give more, such as --context 384")
    stretch = core.encode(context, add_special_tokens=False)
    stretch.truncate(room, stride=min(OVERLAP, room // 2))
    made = []
    for each in [stretch, *stretch.overflowing]:
        framed = core.post_process(asked, each)
        places = [
            _without_space(context, *offset) if owner == 1 else None
            for offset, owner in zip(framed.offsets, framed.sequence_ids, strict=True)
        ]
        made.append(Window(framed.ids, framed.type_ids, places))
    return made


def _without_space(text: str, start: int, stop: int) -> tuple[int, int]:
    """A token's characters, without the space that byte-level tokens begin with."""
    while start < stop and text[start].isspace():
        start += 1
    return start, stop


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a text."""
    framed = tokenizer.plain.post_process(tokenizer.plain.encode("a", add_special_tokens=False))
    inside = [i for i, owner in enumerate(framed.sequence_ids) if owner is not None]
    return framed.ids[: inside[0]], framed.ids[inside[-1] + 1 :]


def _together(before: str, after: str) -> bool:
    """Whether two words are written without a space between them."""
    return bool(before and after) and _unspaced(before[-1]) and _unspaced(after[0])


def _unspaced(character: str) -> bool:
    return "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\uffef" or character >= "\U00020000"
