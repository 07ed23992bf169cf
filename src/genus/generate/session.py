"""A conversation on the terminal, line by line, and the messages of a record."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genus.generate.chat import Talk

HELP = "/new begins afresh, /system TEXT tells the assistant what it is, /quit or Ctrl-D ends; Ctrl-C stops an answer"


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
        print(HELP, file=sys.stderr)
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
        if _command(talk, line.strip()) or not line.strip():
            continue
        forgotten = talk.forgotten
        try:
            for piece in talk.say(line.rstrip("\n")):
                out.write(piece)
                out.flush()
        except KeyboardInterrupt:
            pass
        out.write("\n")
        out.flush()
        count += 1
        if talk.forgotten > forgotten:
            print(f"(the first {talk.forgotten} messages no longer fit into the model's positions)", file=sys.stderr)


def _command(talk: Talk, line: str) -> bool:
    """Carry out a command; whether the line was one."""
    word, _, rest = line.partition(" ")
    if word == "/new":
        talk.forget()
    elif word == "/system":
        talk.system = rest.strip() or None
        talk.forget()
    elif word == "/help":
        print(HELP, file=sys.stderr)
    else:
        return False
    return True
