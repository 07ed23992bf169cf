"""`genus tokenizer train`: a tokenizer from texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Options:
    """Make a tokenizer from texts, as a folder that genus prepare --tokenizer and transformers.AutoTokenizer open.

    genus prepare makes one by itself; this is for one that several data sets share, or that holds special tokens and a chat
    template from the start.
    """

    paths: Annotated[Positional[tuple[str, ...]], arg(metavar="PATH ...")]
    """Files, folders and globs of whatever genus prepare reads, or prepared data (its training split)."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """The folder to make."""
    kind: Literal["bpe", "unigram", "bytes", "chars", "words"] = "bpe"
    """bpe and unigram are byte-level; words is lossy."""
    vocab: int | None = None
    """Entries. Default for bpe and unigram: the power of two nearest to 2·√(bytes of text), from 512 to 65,536."""
    min_count: int | None = None
    """Times a character (default 1) or a word (default 2) must be met to enter the vocabulary."""
    field: str | None = None
    """Field with the text, of records."""
    special: Annotated[tuple[str, ...], arg(metavar="TOKEN ...")] = ()
    """Special tokens to add, such as "<|user|>", or roles: cls, sep, mask, pad."""
    chat_template: Annotated[str | None, arg(metavar="chatml|FILE")] = None
    """Chat template to put inside: chatml (its two tokens are added) or a Jinja file."""
    megabytes: float = 64.0
    """Most text to learn from; of more, a sample chosen by hash."""


def main(options: Options) -> int:
    from genus.prepare.texts import sample
    from genus.prepare.tokenizer import build, describe, furnish

    if not options.paths:
        raise ValueError("there is nothing to learn from; give files, such as genus tokenizer train texts/ -o TOKENIZER")
    if (options.output / "tokenizer.json").exists():
        raise ValueError(f"{options.output} already holds a tokenizer: choose another -o")
    most = round(options.megabytes * 1e6)
    texts = [] if options.kind == "bytes" else sample(options.paths, most, options.field, held_out=False)
    size = sum(len(each.text.encode()) for each in texts)
    tokenizer = build(options.kind, (each.text for each in texts), size, options.vocab, options.min_count)
    tokenizer = furnish(tokenizer, options.special, options.chat_template)
    tokenizer.save(options.output)
    learnt = f", from {size:,} bytes of text" if texts else ""
    print(f"{options.output}: {describe(tokenizer, options.kind)}{learnt}")
    return 0
