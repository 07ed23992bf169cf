"""Documents as they are stored: the ids of `Tokenizer.encode`, by faster ways.

Bytes and characters are looked up, byte-level BPE and unigram remember words; a long text is cut where no token reaches across.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from genus.modalities.byte_bpe import Encoder, fast_encoder

if TYPE_CHECKING:
    from genus.modalities.text import Tokenizer

_LONG = 2**17
_SAFE_CUT = re.compile(r"(?<=[^\W\d_]\n)(?=[^\W\d_])|(?<=[.,;:!?。，！？；：]\n)(?=[^\W\d_])")
"""Between a line end and a letter, after a letter or a common mark: where every known pre-tokenizer pattern ends a piece."""


class DocumentEncoder:
    """A tokenizer's way with many documents."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All ids one after the other, int32, each document followed by `eos_id`; and the lengths, int64."""
        eos = self._tokenizer.eos_id
        if self._tokenizer.kind in ("bytes", "chars"):
            arrays = [self._look_up(text) for text in texts]
            end = np.array([eos], dtype=np.int32)
            lengths = np.array([len(ids) + 1 for ids in arrays], dtype=np.int64)
            flat = [each for ids in arrays for each in (ids, end)]
            return np.concatenate(flat) if flat else np.zeros(0, dtype=np.int32), lengths
        known = self._fast if self._fast is not None and self._fast.pays() else None
        parts = [self.pieces(text) for text in texts]
        pieces = [piece for each in parts for piece in each]
        encoded = [None if known is None else known.encode(piece) for piece in pieces]
        slow = [i for i, ids in enumerate(encoded) if ids is None]
        for i, ids in zip(slow, self._tokenizer.encode_batch([pieces[i] for i in slow]), strict=True):
            encoded[i] = ids
        stored: list[list[int]] = []
        lengths = np.zeros(len(texts), dtype=np.int64)
        rest = iter(encoded)
        for text, each in enumerate(parts):
            own = [ids for ids in islice(rest, len(each)) if ids is not None]
            stored += [*own, [eos]]
            lengths[text] = sum(map(len, own)) + 1
        return np.fromiter(chain.from_iterable(stored), dtype=np.int32, count=int(lengths.sum())), lengths

    def pieces(self, text: str) -> list[str]:
        """Cut a long text where no token can reach across: memory and threads like short texts better."""
        if len(text) <= _LONG or not self._may_cut:
            return [text]
        pieces, start = [], 0
        while len(text) - start > _LONG and (found := _SAFE_CUT.search(text, start + _LONG // 2)):
            pieces.append(text[start : found.start()])
            start = found.start()
        return [*pieces, text[start:]]

    @cached_property
    def _fast(self) -> Encoder | None:
        return fast_encoder(self._tokenizer.core)

    def _look_up(self, text: str) -> np.ndarray:
        if self._tokenizer.kind == "bytes":
            return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int32)
        ids = self._id_of_character[np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)]
        return ids if ids.size == 0 or ids.min() >= 0 else np.asarray(self._tokenizer.encode(text), dtype=np.int32)

    @cached_property
    def _may_cut(self) -> bool:
        # Byte-level pre-tokenizers (GPT-2's pattern and its descendants) end a piece at a line end that a letter follows;
        # a normalizer, or a prefix added to every text, could see the cut.
        if self._tokenizer.kind == "words":
            return True
        state = json.loads(self._tokenizer.plain.to_str())
        steps = state["pre_tokenizer"] or {}
        steps = steps.get("pretokenizers", [steps])
        byte_level = [step for step in steps if step.get("type") == "ByteLevel"]
        split = any(step.get("use_regex", True) for step in byte_level) or any(step.get("type") == "Split" for step in steps)
        return (
            state["normalizer"] is None
            and bool(byte_level)
            and split
            and not any(step.get("add_prefix_space") for step in byte_level)
        )

    @cached_property
    def _id_of_character(self) -> np.ndarray:
        table = np.full(0x110000, -1, dtype=np.int32)
        for token, number in self._tokenizer.core.get_vocab(with_added_tokens=False).items():
            if len(token) == 1:
                table[ord(token)] = number
        return table
