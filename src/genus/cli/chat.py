"""`genus chat`: a conversation on the terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from genus.cli.decoding import Choosing, Form, fit_threads, unescaped


@dataclass(frozen=True)
class Options:
    """Talk with a model that was tuned on conversations.

    Each line that you type is answered, and the model sees the whole conversation. /new begins afresh, /again answers the last
    line anew, /system TEXT says what the assistant is, /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends.

    Lines may also come from a file or a pipe: the answers are then all that is printed.
    """

    model: Annotated[Positional[Path], arg(metavar="RUN|FOLDER")]
    """A run, or a folder in Hugging Face layout, with a chat template."""
    system: str | None = None
    """What the assistant is told before the conversation."""
    max_tokens: int = 1024
    """Most tokens of an answer."""
    stop: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    r"""End an answer at this string and leave it out; may be given several times. \n and \t are understood."""
    choosing: Annotated[Choosing, arg(name="")] = Choosing()
    form: Annotated[Form, arg(name="")] = Form()
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Precision of the arithmetic."""
    weights: Literal["fp32", "bf16", "int8", "int4"] | None = None
    """How the weights are stored: fewer bits are read faster, and cost precision. Default: as --dtype."""


def main(options: Options) -> int:
    from genus.generate.chat import Talk, Talker
    from genus.generate.session import session
    from genus.generate.texts import Generator, placed
    from genus.run import load
    from genus.train.machine import default_device
    from genus.train.threads import settle

    settle()
    constraint = options.form.constraint()
    loaded = placed(load(options.model), default_device())
    generator = Generator(
        loaded,
        max_tokens=options.max_tokens,
        sampling=options.choosing.sampling(loaded.tokenizer, 0.8),
        stop=[unescaped(s) for s in options.stop],
        seed=options.choosing.seed,
        dtype=options.dtype,
        weights=options.weights,
        constraint=constraint,
    )
    fit_threads(generator, 1)
    session(Talk(Talker(generator), options.system), sys.stdin, sys.stdout)
    return 0
