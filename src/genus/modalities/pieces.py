"""What every token of a text looks like to a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

SMALL = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """A piece of text for every id, with the space it may begin with; special tokens by their names.

    A character whose bytes are spread over several tokens is shown by each of them, numbered: 春₁, 春₂. A piece that continues a
    word keeps the mark that the vocabulary gives it (`##ing`).
    """
    if not tokenizer.byte_level:
        return [(tokenizer.token(i) or "").replace("▁", " ") for i in ids]
    stream, shown, waiting = tokenizer.stream(), [], 0
    for number in ids:
        if number in tokenizer.special_ids:
            shown.append(tokenizer.token(number) or "")
            stream, waiting = tokenizer.stream(), 0
            continue
        text = stream.push(number)
        shown.append(text)
        waiting += 1
        if text:
            if waiting > 1:
                for part in range(waiting):
                    shown[len(shown) - waiting + part] = text + str(part + 1).translate(SMALL)
            waiting = 0
    return [text or "\ufffd" for text in shown]
