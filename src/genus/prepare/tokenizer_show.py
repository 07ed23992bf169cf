"""What a tokenizer is, and how it cuts a text, for a reader at a terminal."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from genus.modalities.chat import Chat
from genus.modalities.pieces import pieces
from genus.modalities.text import ROLES, Tokenizer, find_file
from genus.modalities.vocabulary import KINDS, kind, lossless, spelt
from genus.prepare.show import one_line

EXAMPLES = 8
LONGEST = 5
CONVERSATION = [
    {"role": "user", "content": "Who wrote this?"},
    {"role": "assistant", "content": "You did."},
]


def overview(path: str | Path) -> dict[str, Any]:
    """The facts of a tokenizer.

    Raises:
        ValueError: there is none at `path`.
    """
    tokenizer = Tokenizer.load(path)
    state = json.loads(tokenizer.core.to_str())
    spellings = [spelt(tokenizer, number) for number in range(tokenizer.vocab_size)]
    kinds = [kind(each) for each in spellings]
    learnt = [number for number, each in enumerate(spellings) if each is not None and len(each) > 1]
    lengths = [len(spellings[number] or b"") for number in learnt]
    longest = sorted(learnt, key=lambda number: (-len(spellings[number] or b""), number))[:LONGEST]
    return {
        "file": str(find_file(path)),
        "kind": tokenizer.kind,
        "model": state["model"]["type"],
        "pre_tokenizer": tokenizer.config.get("genus_pattern") or _steps(state["pre_tokenizer"], "pretokenizers"),
        "normalizer": _steps(state["normalizer"], "normalizers"),
        "entries": tokenizer.vocab_size,
        "lossless": lossless(tokenizer),
        "fingerprint": tokenizer.fingerprint,
        "bos": [tokenizer.token(tokenizer.bos_id), tokenizer.bos_id],
        "eos": [tokenizer.token(tokenizer.eos_id), tokenizer.eos_id],
        "add_bos": tokenizer.add_bos,
        "special": {str(tokenizer.token(number)): number for number in sorted(tokenizer.special_ids)},
        "roles": {role: tokenizer.token(number) for role in ROLES if (number := tokenizer.role(role)) is not None},
        "kinds": {name: count for name, count in zip(KINDS, map(Counter(kinds).__getitem__, KINDS)) if count},
        "bytes_per_entry": sum(lengths) / len(lengths) if lengths else 1.0,
        "longest": pieces(tokenizer, longest),
        "examples": {name: pieces(tokenizer, _some([i for i in learnt if kinds[i] == name])) for name in KINDS[2:]},
        "chat_template": tokenizer.chat_template,
        "conversation": _conversation(tokenizer),
    }


def tell(facts: dict[str, Any]) -> str:
    """The facts as text."""
    kind_name = facts["kind"] if facts["kind"] != "imported" else f"imported ({facts['model']})"
    losses = "lossless" if facts["lossless"] else "not lossless for every text"
    rows = [
        ("kind", f"{kind_name}, {facts['entries']:,} entries, {losses}"),
        ("cuts words by", facts["pre_tokenizer"] or "nothing"),
        ("rewrites", facts["normalizer"] or "nothing"),
        ("prompts begin with", f"{facts['bos'][0]} ({facts['bos'][1]})" if facts["add_bos"] else "nothing"),
        ("documents end with", f"{facts['eos'][0]} ({facts['eos'][1]})"),
        ("special tokens", "  ".join(f"{token} {number}" for token, number in facts["special"].items())),
    ]
    if facts["roles"]:
        rows.append(("roles", "  ".join(f"{role} {token}" for role, token in facts["roles"].items())))
    rows.append(("entries", ", ".join(f"{name} {count:,}" for name, count in facts["kinds"].items())))
    rows.append(("", f"{facts['bytes_per_entry']:.1f} bytes each on average, single bytes aside"))
    for name, shown in facts["examples"].items():
        rows += [(name, "  ".join(map(_quoted, shown)))] if shown else []
    rows.append(("longest", "  ".join(map(_quoted, facts["longest"]))))
    rows.append(("fingerprint", facts["fingerprint"][:16]))
    width = max(len(name) for name, _ in rows)
    lines = [facts["file"], *(f"  {name:<{width}}  {text}".rstrip() for name, text in rows)]
    if facts["chat_template"] is None:
        return "\n".join([*lines, f"  {'chat template':<{width}}  none"])
    lines.append(f"  {'chat template':<{width}}  {len(facts['chat_template']):,} characters; a question and an answer with it:")
    return "\n".join([*lines, *(f"    {one_line(line)}" for line in facts["conversation"].splitlines())])


def cut(path: str | Path, text: str) -> dict[str, Any]:
    """How a tokenizer cuts a text: its pieces and their ids, and how much there is of each.

    Raises:
        ValueError: no tokenizer at `path`, or half of a surrogate pair in the text.
    """
    tokenizer = Tokenizer.load(path)
    ids = tokenizer.encode(text)
    return {
        "pieces": pieces(tokenizer, ids),
        "ids": ids,
        "bytes": len(text.encode()),
        "characters": len(text),
        "same": tokenizer.decode(ids) == text,
    }


def tell_cut(facts: dict[str, Any]) -> str:
    """The cut as text: pieces between bars, ids, and the counts."""
    tokens = len(facts["ids"])
    lines = ["│".join(map(one_line, facts["pieces"])), " ".join(map(str, facts["ids"]))]
    if tokens:
        lines.append(
            f"{tokens:,} token{'s' if tokens > 1 else ''} for {facts['bytes']:,} bytes, {facts['characters']:,} characters: "
            f"{facts['bytes'] / tokens:.2f} bytes and {facts['characters'] / tokens:.2f} characters per token"
        )
    lines.append("decoded, it is the same text" if facts["same"] else "decoded, it is another text: something is lost")
    return "\n".join(lines)


def _steps(state: dict[str, Any] | None, inner: str) -> str:
    """The names of the steps of a normalizer or pre-tokenizer."""
    return ", ".join(step["type"] for step in (state or {}).get(inner, [state] if state else []))


def _some(numbers: list[int]) -> list[int]:
    """A few, evenly spread over the vocabulary."""
    step = max(1, len(numbers) // EXAMPLES)
    return numbers[::step][:EXAMPLES]


def _conversation(tokenizer: Tokenizer) -> str | None:
    if tokenizer.chat_template is None:
        return None
    try:
        return Chat(tokenizer).text(CONVERSATION)
    except ValueError as error:
        return str(error)


def _quoted(piece: str) -> str:
    return f"“{one_line(piece)}”"
