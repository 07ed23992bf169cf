"""`genus tokenizer show`: what a tokenizer is, and how it cuts a text."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg


@dataclass(frozen=True)
class Options:
    """Show a tokenizer: its vocabulary, special tokens and chat template, or how it cuts a text.

    genus tokenizer show DATA                        an overview

    genus tokenizer show RUN "Where am I? 我在哪里？"    the pieces of a text, and their ids
    """

    path: Annotated[Positional[Path], arg(metavar="FOLDER|DATA|RUN")]
    """A tokenizer.json, or a folder that holds one: a Hugging Face folder, prepared data, a run."""
    text: Annotated[Positional[str | None], arg(metavar="TEXT")] = None
    """What to cut."""
    json: FlagCreatePairsOff[bool] = False
    """Print JSON."""


def main(options: Options) -> int:
    from genus.prepare.tokenizer_show import cut, overview, tell, tell_cut

    facts = overview(options.path) if options.text is None else cut(options.path, options.text)
    if options.json:
        print(json.dumps(facts, ensure_ascii=False, indent=1))
    else:
        print(tell(facts) if options.text is None else tell_cut(facts))
    return 0
