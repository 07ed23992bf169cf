"""A conversation on a real terminal (a pseudo-terminal): long lines, Ctrl-C, Ctrl-D, commands that are none."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest

pty = pytest.importorskip("pty")

TALK = """
import sys, time
from genus.generate.session import session

class Talk:
    def __init__(self):
        self.messages, self.forgotten, self.finish, self.system = [], 0, None, None

    def say(self, text):
        self.messages += [text, ""]
        for number in range(500 if text == "go on" else 1):
            time.sleep(0.01)
            yield f"{len(text)} characters, {text.count(chr(10)) + 1} lines; said {len(self.messages) // 2}. "

session(Talk(), sys.stdin, sys.stdout)
"""
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """A process with a terminal of its own."""

    def __init__(self, program: str) -> None:
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, "-c", program])
        self.shown, self.ended = "", False

    def type(self, text: str) -> None:
        for at in range(0, len(text), 500):
            os.write(self.end, text[at : at + 500].encode())
            self._read(0.01)

    def wait(self, text: str, seconds: float = 60.0) -> None:
        """Until it shows a text, after what was waited for before."""
        until = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < until and self._read(0.5), f"no {text!r} in {self.shown[-500:]!r}"
        self.shown = self.shown.partition(text)[2]

    def interrupt(self, until: str | None) -> None:
        """Press Ctrl-C until it shows a text, or with None until it ends.

        Python's readline hears a signal only once it waits for a key; one that comes between the prompt and that is heard with
        the next, as one.
        """
        for _ in range(30):
            self.type(CTRL_C)
            begin = time.monotonic()
            while time.monotonic() < begin + 2:
                if not self._read(0.2):
                    assert until is None, self.shown[-500:]
                    return
                if until is not None and until in self.shown:
                    return self.wait(until)
        raise AssertionError(f"Ctrl-C did nothing: {self.shown[-500:]!r}")

    def status(self, seconds: float = 60.0) -> int:
        """Of the process, when it has ended."""
        until = time.monotonic() + seconds
        while self._read(0.5):
            assert time.monotonic() < until, f"it does not end: {self.shown[-500:]!r}"
        self.ended = True
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        """Whatever it does."""
        os.close(self.end)
        if not self.ended:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def _read(self, seconds: float) -> bool:
        """False when the process has ended."""
        if select.select([self.end], [], [], seconds)[0]:
            try:
                piece = os.read(self.end, 65536)
            except OSError:
                return False
            self.shown += piece.decode(errors="replace")
            return bool(piece)
        return True


@pytest.fixture
def terminal() -> Iterator[Callable[[], Terminal]]:
    made: list[Terminal] = []

    def make() -> Terminal:
        made.append(Terminal(TALK))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_long_line_arrives_whole(terminal: Callable[[], Terminal]) -> None:
    talk = terminal()
    talk.wait("> ")
    talk.type("x" * 9000 + "\r")
    talk.wait("9000 characters, 1 lines")
    talk.wait("> ")
    talk.type("\x1b[200~one\rtwo\x1b[201~\r")  # pasted
    talk.wait("7 characters, 2 lines; said 2")
    talk.wait("> ")
    talk.type(CTRL_D)
    assert talk.status() == 0


def test_ctrl_c_stops_an_answer_and_not_the_conversation(terminal: Callable[[], Terminal]) -> None:
    talk = terminal()
    talk.wait("> ")
    talk.type("go on\r")
    talk.wait("said 1")
    talk.type(CTRL_C)
    talk.wait("> ")
    assert talk.shown.count("said") < 100
    talk.type("half a line")
    talk.interrupt("Ctrl-D, ends")
    talk.wait("> ")
    talk.type("/nwe\r")
    talk.wait("did you mean '/new'")
    talk.type(" /nwe\r")
    talk.wait("5 characters, 1 lines; said 2")
    talk.wait("> ")
    talk.interrupt("Ctrl-D, ends")
    talk.wait("> ")
    talk.interrupt(None)
    assert talk.status() == 0
