"""Files that are labelled: they come in pieces, wait for their turn, are labelled in a thread of their own, and are fetched.

A file has a number that nobody can guess and lies in a temporary folder under a name of the server's own. It goes when it is
dropped, when it is an hour old, or when the server ends.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from genus.serve.errors import Refused, busy, invalid

if TYPE_CHECKING:
    from genus.serve.served import Entry
    from genus.tune.predict import Tally

KINDS = {".csv": ".csv", ".tsv": ".tsv", ".jsonl": ".jsonl", ".json": ".jsonl", ".txt": ".jsonl"}
"""What a file may be, and what its labelled rows are written as."""

LARGEST = 256 * 2**20  # bytes of a file
MOST = 16  # files at once
KEPT = 3600.0  # seconds after which a file that nobody asks for goes
TIDY = 60.0  # seconds between two looks for such files
AT_ONCE = 64  # rows between two reports

log = logging.getLogger("genus.serve")
Status = Literal["uploading", "waiting", "running", "done", "failed", "cancelled"]


class Cancelled(Exception):
    """Nobody wants the rows any more."""


@dataclass
class Job:
    """A file on its way.

    Attributes:
        entry: the model. name: what the client calls the file. text: the column to read, where it has a name of its own.
        size, received: bytes. rows, done: in all, and labelled. errors: rows that have no prediction. message: why it failed.
        seen: when somebody last asked for it.
    """

    entry: Entry
    number: str
    folder: Path
    name: str
    size: int
    text: str | None
    received: int = 0
    rows: int = 0
    done: int = 0
    errors: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    status: Status = "uploading"
    message: str = ""
    seen: float = field(default_factory=time.monotonic)

    @property
    def input(self) -> Path:
        return self.folder / f"rows{Path(self.name).suffix.lower()}"

    @property
    def output(self) -> Path:
        return self.folder / f"labelled{KINDS[self.input.suffix]}"

    @property
    def download(self) -> str:
        """What the browser saves the labelled rows as."""
        return f"{Path(self.name).stem[:100]}.labelled{self.output.suffix}"

    def state(self) -> dict[str, Any]:
        """What the page shows of it."""
        names = ("number", "name", "size", "received", "rows", "done", "errors", "scores", "status", "message", "download")
        return {name: getattr(self, name) for name in names}


class Predictions:
    """All files of a server. One at a time is labelled, so that those who talk with a model are not left without a processor."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._folder: TemporaryDirectory[str] | None = None
        self._thread = ThreadPoolExecutor(1, "genus-predictions")

    def open(self, entry: Entry, name: str, size: int, text: str | None) -> dict[str, Any]:
        """Make room for a file.

        Raises:
            Refused: it is too large, of an unknown kind, or there are too many.
        """
        self._tidy()
        kind = Path(name).suffix.lower()
        if kind not in KINDS:
            raise invalid(f"{name!r} is none of {', '.join(KINDS)}", "name")
        if size > LARGEST:
            raise invalid(f"the file has {size:,} bytes, and at most {LARGEST:,} are taken; cut it into several", "size")
        if len(self._jobs) >= MOST:
            raise busy(f"{len(self._jobs)} files are here already")
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="genus-")
        number = secrets.token_urlsafe(16)
        folder = Path(self._folder.name) / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        job = self._jobs[number] = Job(entry, number, folder, name, size, text)
        return job.state()

    def find(self, number: str) -> Job:
        """A file by its number.

        Raises:
            Refused: there is none (404).
        """
        job = self._jobs.get(number)
        if job is None:
            raise Refused(404, "there is no such file here any more; upload it again", "number", "file_not_found")
        job.seen = time.monotonic()
        return job

    async def add(self, job: Job, at: int, piece: bytes) -> None:
        """Put a piece behind what has come. With the last piece the file joins the queue.

        Raises:
            Refused: it is not the next piece, or the file gets longer than was said.
        """
        if job.status != "uploading" or at != job.received:
            raise invalid(f"the next piece begins at {job.received}, not at {at}", "at")
        if job.received + len(piece) > job.size:
            raise invalid(f"the file was said to have {job.size:,} bytes; these are more", "at")
        job.received += len(piece)
        await asyncio.to_thread(_append, job.input, piece)
        if job.received == job.size:
            job.status = "waiting"
            self._thread.submit(self._label, job)

    async def drop(self, number: str) -> None:
        """Forget a file; rows that are being labelled end with the present ones."""
        job = self._jobs.pop(number, None)
        if job is not None:
            finished = job.status in ("uploading", "done", "failed")
            job.status = "cancelled"
            if finished:
                await asyncio.to_thread(shutil.rmtree, job.folder, True)

    async def keep_tidy(self) -> None:
        """Let go of old files, again and again."""
        while True:
            await asyncio.sleep(TIDY)
            self._tidy()

    def close(self) -> None:
        """End what is being labelled and remove every file."""
        for job in self._jobs.values():
            job.status = "cancelled"
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._folder is not None:
            self._folder.cleanup()

    def _label(self, job: Job) -> None:
        """Label the rows; in the thread."""
        from genus.tune.predict import predict

        def advance(rows: int) -> None:
            if job.status == "cancelled":
                raise Cancelled
            job.done = rows

        try:
            advance(0)
            job.status, job.rows = "running", _count(job.input)
            path, out = job.entry.path, job.output
            tally: Tally = predict(path, job.input, out, text=job.text, say=log.info, advance=advance, at_once=AT_ONCE)
            job.errors, job.scores, job.status = tally.errors, tally.scores, "done"
        except Cancelled:
            shutil.rmtree(job.folder, ignore_errors=True)
        except (ValueError, OSError) as error:
            job.status, job.message = "failed", str(error).replace(str(job.input), job.name)
        except Exception:
            log.exception("labelling a file with %s failed", job.entry.name)
            job.status, job.message = "failed", "the model failed; the server's log says where"

    def _tidy(self) -> None:
        """Let go what nobody has asked for in an hour."""
        for number, job in list(self._jobs.items()):
            if time.monotonic() - job.seen > KEPT and job.status not in ("waiting", "running"):
                del self._jobs[number]
                shutil.rmtree(job.folder, ignore_errors=True)


def _append(path: Path, piece: bytes) -> None:
    with open(path, "ab") as file:
        file.write(piece)


def _count(path: Path) -> int:
    """Rows of a file."""
    from genus.prepare.records import stream

    return sum(1 for _ in stream(path))
