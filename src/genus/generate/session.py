"""A conversation on the terminal, line by line, and the messages of a record."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

from genus.spec import nearest

if TYPE_CHECKING:
    from genus.generate.chat import Talk

PROMPT = "> "
COMMANDS = ("/new", "/again", "/system", "/help", "/quit")
HELP = """\
/new          begin afresh
/again        another answer to the last line
/system TEXT  what the assistant is, and begin afresh; without TEXT: nothing
/help         this list
/quit, Ctrl-D end; Ctrl-C stops an answer, or drops the line that is being typed"""


def conversation(record: dict[str, Any], system: str | None) -> list[dict[str, Any]]:
    """The messages of a record: its own, or its prompt as the user's."""
    messages = record.get("messages") or [{"role": "user", "content": record["prompt"]}]
    has_system = messages[0].get("role") == "system"
    return messages if has_system or not system else [{"role": "system", "content": system}, *messages]


def session(talk: Talk, lines: IO[str], out: IO[str]) -> int:
    """Talk until the lines end. Returns the number of answers."""
    live = lines.isatty()
    count = dropped = 0
    if live:
        print("Ctrl-D ends, Ctrl-C stops an answer, /help lists the commands", file=sys.stderr)
    while True:
        try:
            line = _ask(lines, out) if live else lines.readline()
        except KeyboardInterrupt:
            dropped += 1
            if not live:
                raise
            if dropped > 1:
                out.write("\n")
                return count
            print("\n(Ctrl-C again, or Ctrl-D, ends)", file=sys.stderr)
            continue
        dropped = 0
        if not line or line.strip() == "/quit":
            if live and not line:
                out.write("\n")
            return count
        if line.strip():
            count += _turn(talk, line.rstrip("\n"), out, live)


def _ask(lines: IO[str], out: IO[str]) -> str:
    """A line that somebody types; empty at the end.

    On a real terminal the line is edited by readline, which takes lines of any length, and pasted text with line breaks as one
    message: the terminal's own editing cuts a line at 4,095 bytes without a word.
    """
    if lines is not sys.stdin or out is not sys.stdout or not out.isatty():
        out.write(PROMPT)
        out.flush()
        return lines.readline()
    with contextlib.suppress(ImportError):  # there is none on Windows
        import readline  # noqa: F401  (`input` uses it once it is imported)
    try:
        return input(PROMPT) + "\n"
    except EOFError:
        return ""


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
    elif live and re.fullmatch("/[a-z]+", line.partition(" ")[0]):
        print(f"there is no command {word}{nearest(word, COMMANDS)}\n(a space before it sends it as it is)", file=sys.stderr)
    else:
        return _print(talk, talk.say(line), out, live)
    return 0


def _print(talk: Talk, answer: Iterator[str], out: IO[str], live: bool) -> int:
    forgotten = talk.forgotten
    try:
        with _interrupts(live) as pressed, contextlib.closing(answer):  # type: ignore[type-var]
            for piece in answer:
                out.write(piece)
                out.flush()
                if pressed:
                    break
    except KeyboardInterrupt:
        if not live:
            raise
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
    if talk.finish == "length":
        print("(cut: the answer has as many tokens as --max-tokens allows)", file=sys.stderr)
    return 1


@contextmanager
def _interrupts(live: bool) -> Iterator[list[int]]:
    """What grows when Ctrl-C is pressed: the token that is being computed is finished first, so that nothing stays half done.

    The second time it interrupts at once; so does the first where lines come from a file, which it ends.
    """
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    if not live or threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
