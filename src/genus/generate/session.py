"""A conversation on the terminal, line by line, and the messages of a record."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genus.generate.chat import Talk

HELP = """\
/new          begin afresh
/again        another answer to the last line
/system TEXT  what the assistant is, and begin afresh; without TEXT: nothing
/help         this list
/quit, Ctrl-D end; Ctrl-C stops an answer"""


def conversation(record: dict[str, Any], system: str | None) -> list[dict[str, Any]]:
    """The messages of a record: its own, or its prompt as the user's."""
    messages = record.get("messages") or [{"role": "user", "content": record["prompt"]}]
    has_system = messages[0].get("role") == "system"
    return messages if has_system or not system else [{"role": "system", "content": system}, *messages]


def session(talk: Talk, lines: IO[str], out: IO[str]) -> int:
    """Talk until the lines end. Returns the number of answers."""
    live = lines.isatty()
    count = 0
    if live:
        print("Ctrl-D ends, Ctrl-C stops an answer, /help lists the commands", file=sys.stderr)
    while True:
        if live:
            out.write("> ")
            out.flush()
        try:
            line = lines.readline()
        except KeyboardInterrupt:
            line = ""
        if not line or line.strip() == "/quit":
            if live:
                out.write("\n")
            return count
        if line.strip():
            count += _turn(talk, line.rstrip("\n"), out, live)


def _turn(talk: Talk, line: str, out: IO[str], live: bool) -> int:
    """Carry out a command or answer a line. Returns the number of answers."""
    word, _, rest = line.strip().partition(" ")
    if word == "/new":
        talk.forget()
    elif word == "/system":
        talk.system = rest.strip() or None
        talk.forget()
    elif word == "/help":
        print(HELP, file=sys.stderr)
    elif word == "/again" and not talk.messages:
        print("(nothing was said yet)", file=sys.stderr)
    elif word == "/again":
        return _print(talk, talk.again(), out, live)
    else:
        return _print(talk, talk.say(line), out, live)
    return 0


def _print(talk: Talk, answer: Iterator[str], out: IO[str], live: bool) -> int:
    forgotten, stopped = talk.forgotten, False
    try:
        for piece in answer:
            out.write(piece)
            out.flush()
    except KeyboardInterrupt:
        stopped = True
    except ValueError as error:
        if not live:
            raise
        print(f"error: {error}", file=sys.stderr)  # a question too long for the model, say: it was not said
        del talk.messages[-2:]
        return 0
    out.write("\n")
    out.flush()
    if talk.forgotten > forgotten:
        print(f"(the first {talk.forgotten} messages no longer fit into the model's positions)", file=sys.stderr)
    if not stopped and talk.finish == "length":
        print("(cut: the answer has as many tokens as --max-tokens allows)", file=sys.stderr)
    return 1
