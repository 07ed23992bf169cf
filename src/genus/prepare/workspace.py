"""The folder a data set is made in: DATA.partial, which becomes DATA by one rename when everything is there.

Its journal makes a killed run restartable: the plan says what is to be done, and every finished unit leaves its files plus one
JSON marker, written last and atomically. A second run with the same plan skips what has a marker.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from genus.prepare.dataset import FORMAT, MANIFEST
from genus.run import replace_folder, write_atomic

JOURNAL = ".journal"
PLAN = "plan.json"


class Workspace:
    """DATA.partial and its journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / JOURNAL

    @property
    def plan(self) -> dict[str, Any]:
        return json.loads((self.journal / PLAN).read_text(encoding="utf-8"))

    def file(self, stage: str, unit: int, suffix: str) -> Path:
        """A file of one unit of one stage."""
        return self.journal / f"{stage}-{unit:05d}.{suffix}"

    def decision(self, number: int) -> Path:
        """The folder of what was decided before a round."""
        return self.journal / f"decision-{number}"

    def decided(self, number: int) -> Path:
        """The marker of that decision: facts for the report."""
        return self.journal / f"decision-{number}.json"

    def is_done(self, stage: str, unit: int) -> bool:
        return self.file(stage, unit, "json").exists()

    def mark_done(self, stage: str, unit: int, facts: dict[str, Any]) -> None:
        """Declare a unit finished. Its other files must be complete."""
        with appearing(self.file(stage, unit, "json")) as temporary:
            temporary.write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")

    def facts(self, stage: str, unit: int) -> dict[str, Any]:
        return json.loads(self.file(stage, unit, "json").read_text(encoding="utf-8"))

    @classmethod
    def open(cls, out: Path, plan: dict[str, Any], overwrite: bool) -> tuple[Workspace, bool] | None:
        """Take up DATA.partial if it was left by a run with this very plan, else start it anew; says which.

        None when such a run was killed after its very last step but one: DATA is complete.

        Raises:
            ValueError: DATA is there and may not be replaced, or DATA.partial is something else or in use.
        """
        plan = json.loads(json.dumps(plan))
        space = cls(out.with_name(out.name + ".partial"))
        if _take_back(out, space, plan):
            return None
        check_target(out, overwrite)
        if space.folder.exists() and not space.journal.is_dir():
            raise ValueError(f"{space.folder} is in the way and was not made by genus prepare: move it, or choose another -o")
        same = (space.journal / PLAN).is_file() and space.plan == plan
        space.journal.mkdir(parents=True, exist_ok=True)
        space._lock = _lock(space.journal)
        if not same:
            for left in [*space.folder.iterdir(), *space.journal.iterdir()]:
                if left.name in (JOURNAL, "lock"):
                    continue
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            write_atomic(space.journal / PLAN, json.dumps(plan, ensure_ascii=False))
        return space, same

    def finish(self, out: Path) -> None:
        """Put the folder in its place, without the journal, which waits beside it until that has happened."""
        for left in self.folder.glob(".*.tmp"):  # of an atomic write that was killed
            left.unlink()
        aside = _aside(out)
        os.rename(self.journal, aside)
        replace_folder(self.folder, out)
        _remove(aside)
        if self._lock is not None:
            self._lock.close()

    _lock: IO[str] | None = None


def _aside(out: Path) -> Path:
    return out.with_name(out.name + ".journal")


def _take_back(out: Path, space: Workspace, plan: dict[str, Any]) -> bool:
    """Repair what a kill during `finish` left. True when DATA was complete and this is its plan."""
    aside = _aside(out)
    if not aside.is_dir() or (any(aside.iterdir()) and not (aside / PLAN).is_file()):
        return False
    if space.folder.is_dir() and not space.journal.exists():
        os.rename(aside, space.journal)
        return False
    complete = (aside / PLAN).is_file() and json.loads((aside / PLAN).read_text(encoding="utf-8")) == plan
    shutil.rmtree(out.with_name(f".{out.name}.old"), ignore_errors=True)
    _remove(aside)
    return complete and is_dataset(out)


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A path to write a file to, which comes into being complete when the block ends. Two processes may do so at once."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove(journal: Path) -> None:
    for left in journal.iterdir():
        if left.name != PLAN:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    (journal / PLAN).unlink(missing_ok=True)  # last, because it is what a journal is known by
    journal.rmdir()


def check_target(out: Path, overwrite: bool) -> None:
    """Refuse an output folder that holds something else, or a data set that was not given up with --overwrite.

    Raises:
        ValueError: as said.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not is_dataset(out):
        raise ValueError(f"{out} exists and is not a data folder made by genus prepare: it is left alone; choose another -o")
    if not overwrite:
        raise ValueError(f"{out} already holds prepared data: add --overwrite to replace it, or choose another -o")


def is_dataset(folder: Path) -> bool:
    """Whether a folder has a manifest of ours."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def _lock(journal: Path) -> IO[str] | None:
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows: two runs into one folder are then not noticed
        return None
    file = open(journal / "lock", "w")  # noqa: SIM115 (held until the process ends)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise ValueError(f"another genus prepare is writing {journal.parent}: wait for it, or choose another -o") from error
    return file
