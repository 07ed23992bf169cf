"""The folder a data set is made in: DATA.partial, which becomes DATA by one rename when everything is there.

Its journal makes a killed run restartable: the plan says what is to be done, and every finished unit leaves its files plus one
JSON marker, written last and atomically. A second run with the same plan skips what has a marker.
"""

from __future__ import annotations

import json
import shutil
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

    def is_done(self, stage: str, unit: int) -> bool:
        return self.file(stage, unit, "json").exists()

    def mark_done(self, stage: str, unit: int, facts: dict[str, Any]) -> None:
        """Declare a unit finished. Its other files must be complete."""
        write_atomic(self.file(stage, unit, "json"), json.dumps(facts, ensure_ascii=False))

    def facts(self, stage: str, unit: int) -> dict[str, Any]:
        return json.loads(self.file(stage, unit, "json").read_text(encoding="utf-8"))

    @classmethod
    def open(cls, out: Path, plan: dict[str, Any], overwrite: bool) -> tuple[Workspace, bool]:
        """Take up DATA.partial if it was left by a run with this very plan, else start it anew; says which.

        Raises:
            ValueError: DATA is there and may not be replaced, or DATA.partial is something else or in use.
        """
        check_target(out, overwrite)
        space = cls(out.with_name(out.name + ".partial"))
        if space.folder.exists() and not space.journal.is_dir():
            raise ValueError(f"{space.folder} is in the way and was not made by genus prepare: move it, or choose another -o")
        same = (space.journal / PLAN).is_file() and space.plan == json.loads(json.dumps(plan))
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
        """Drop the journal and put the folder in its place."""
        shutil.rmtree(self.journal)
        replace_folder(self.folder, out)
        if self._lock is not None:
            self._lock.close()

    _lock: IO[str] | None = None


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
