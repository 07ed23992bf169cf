"""ARPA text files, the exchange format of n-gram models (kenlm, SRILM, lmplz). Written here; `arpa_reader` reads them.

A line of section k is `log10 p <tab> k words [<tab> log10 back-off]`. `<s>` is the beginning of a document, `</s>` its end,
`<unk>` an unknown word. Words are separated by blanks, so blanks inside a token's spelling are escaped (see `escape`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch

from genus.parts.ngram import NGram

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
NEVER = -99.0  # what ARPA files write for log10(0)
BLOCK = 2**18  # grams written at a time
LN10 = math.log(10)


class Vocabulary(Protocol):
    """What is asked of a tokenizer."""

    vocab_size: int
    bos_id: int
    eos_id: int

    def token(self, number: int) -> str | None: ...


def escape(token: str) -> str:
    r"""A spelling without blanks or control characters, different for different tokens.

    A blank or control character becomes `\x20;` (its code in hexadecimal), a backslash is doubled, the empty token is `\e`, and a
    token that only looks like one of ARPA's own (`<s>`, `</s>`, `<unk>`) gets a backslash in front.
    """
    if token.lower() in (BOS, EOS, UNK):
        return "\\" + token
    spelled = (f"\\x{ord(c):x};" if c.isspace() or not c.isprintable() else c for c in token.replace("\\", "\\\\"))
    return "".join(spelled) or "\\e"


def token_names(tokenizer: Vocabulary) -> list[str]:
    """The word that stands for each token id in an ARPA file. An id without a token is called `\\#id`."""
    names = []
    for number in range(tokenizer.vocab_size):
        token = tokenizer.token(number)
        names.append(f"\\#{number}" if token is None else UNK if token == UNK else escape(token))
    names[tokenizer.bos_id] = BOS
    names[tokenizer.eos_id] = EOS  # the same id may begin and end documents; as a word it ends them
    return names


def write_arpa(path: str | Path, model: NGram.Module, names: Sequence[str] | None = None) -> None:
    """Write `model`, all tokens of its vocabulary included.

    Args:
        names: a word for each id, from `token_names`; None = the ids themselves.
    """
    spec = model.spec
    names = _default_names(spec) if names is None else list(names)
    if len(names) != spec.vocab or len({*names}) != spec.vocab:
        raise ValueError(f"{len({*names})} different names for a vocabulary of {spec.vocab}: give every token id its own")
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    extra = [BOS] * (BOS not in names) + [UNK] * (UNK not in names)
    with open(partial, "wb") as file:
        sizes = (spec.vocab + len(extra), *spec.grams)
        lines = ["\\data\\", *(f"ngram {k}={size}" for k, size in enumerate(sizes, 1)), "", "\\1-grams:", ""]
        file.write("\n".join(lines).encode())
        _write_unigrams(file, model, names, extra)
        for k in range(2, spec.order + 1):
            file.write(f"\n\\{k}-grams:\n".encode())
            for start in range(0, spec.grams[k - 2], BLOCK):
                _write_grams(file, model, k, start, [*names, BOS])
        file.write(b"\n\\end\\\n")
    partial.replace(path)


def _default_names(spec: NGram) -> list[str]:
    names = [str(i) for i in range(spec.vocab)]
    names[spec.bos] = BOS
    names[spec.eos] = EOS
    return names


def _write_unigrams(file: BinaryIO, model: NGram.Module, names: list[str], extra: list[str]) -> None:
    probs = _log10(model.table("log_probs", 1).cpu().numpy())
    backoffs = _log10(model.table("backoffs", 1).cpu().numpy()) if model.spec.order > 1 else np.zeros(len(probs) + 1)
    start = model.spec.vocab  # the context "beginning of a document"
    weights = {name: float(backoffs[start if name == BOS else i]) for i, name in enumerate(names)}
    values = dict(zip(names, probs.tolist(), strict=True))
    for name in extra:
        values[name], weights[name] = NEVER, float(backoffs[start]) if name == BOS else 0.0
    for name, value in values.items():
        file.write(f"{value:.9g}\t{name}{_weight(weights[name], model.spec.order)}\n".encode())


def _weight(value: float, order: int) -> str:
    return f"\t{value:.9g}" if order > 1 else ""


def _write_grams(file: BinaryIO, model: NGram.Module, order: int, start: int, names: list[str]) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    node = np.arange(start, min(start + BLOCK, model.spec.grams[order - 2]))
    stop = start + len(node)
    strings = pa.array(names, pa.string())
    words: list[pa.Array] = []
    columns = [_numbers(model.table("log_probs", order)[start:stop])]
    for k in range(order, 1, -1):
        words.insert(0, strings.take(pa.array(model.table("words", k).cpu().numpy()[node])))
        node = np.searchsorted(model.table("children", k - 1).cpu().numpy(), node, side="right") - 1
    words.insert(0, strings.take(pa.array(node)))
    columns.append(pc.binary_join_element_wise(*words, " "))
    if order < model.spec.order:
        columns.append(_numbers(model.table("backoffs", order)[start:stop]))
    lines = pc.binary_join_element_wise(pc.binary_join_element_wise(*columns, "\t"), "", "\n")
    _, offsets, data = lines.buffers()
    used = np.frombuffer(offsets, np.int32)[[lines.offset, lines.offset + len(lines)]]
    file.write(memoryview(data)[used[0] : used[1]])


def _numbers(natural: torch.Tensor):  # type: ignore[no-untyped-def]  # pyarrow.Array, imported late
    """Decimal text of log10, nine significant digits: enough for float32 to be the same when it is read back."""
    import pyarrow as pa

    values = _log10(natural.cpu().numpy())
    size = np.floor(np.log10(np.where(values == 0, 1, np.abs(values))))
    scale = 10.0 ** (8 - size)
    return pa.array(np.rint(values * scale) / scale).cast(pa.string())


def _log10(natural: np.ndarray) -> np.ndarray:
    return np.maximum(natural.astype(np.float64) / LN10, NEVER)
