"""Which models there are, and which of them are loaded: on demand, within a memory budget, until they are idle.

What is served follows the disk (`genus.serve.watch`). All book-keeping happens in the event loop; files are read in a thread
beside it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from genus.serve.errors import Refused, busy
from genus.serve.served import Entry, Served, Version, load
from genus.serve.settings import Settings
from genus.serve.watch import Seen, look
from genus.spec import nearest

LOOK = 2.0  # seconds between two looks at the disk

log = logging.getLogger("genus.serve")


@dataclass
class _Place:
    """An entry with its model, where it is loaded. `users`: requests that hold it. `last`: when the last one let go."""

    entry: Entry
    served: Served | None = None
    users: int = 0
    last: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Registry:
    """Models by name.

    Args:
        settings: `settings.models` says what to serve.

    Attributes:
        waiting: runs that cannot answer yet, and why.

    Raises:
        ValueError: two models have one name, one cannot be served, or one is larger than the memory budget.
        FileNotFoundError: there is no model at a path.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.waiting: dict[str, str] = {}
        self._places: dict[str, _Place] = {}
        self._leaving: list[_Place] = []  # whose files have changed, and which somebody still uses
        self._seen: dict[Path, Version] = {}
        self._loading = asyncio.Lock()
        for each in look(settings, {}, {}):
            if each.problem is not None and not each.unfinished:
                raise each.problem
            self._take(each)

    @property
    def entries(self) -> dict[str, Entry]:
        """What can be asked for, by name."""
        return {name: place.entry for name, place in self._places.items()}

    @property
    def loaded(self) -> dict[str, Served]:
        """What is in memory, by name."""
        return {name: place.served for name, place in self._places.items() if place.served is not None}

    def entry(self, name: str) -> Entry:
        """One of them.

        Raises:
            Refused: no model has this name (404), or it cannot answer yet (503).
        """
        if name in self._places:
            return self._places[name].entry
        if name in self.waiting:
            reason = f"the model {name!r} cannot answer yet: it trains and has no checkpoint, or the server's log says why"
            raise Refused(503, reason, "model", "model_not_ready", {"Retry-After": "60"})
        raise Refused(404, f"there is no model {name!r}{nearest(name, self._places)}", "model", "model_not_found")

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Served]:
        """A model, loaded if need be, and kept in memory inside the context.

        Raises:
            Refused: no model has this name (404), it cannot be loaded (500), or there is no room for it now (429).
        """
        self.entry(name)
        place = self._places[name]
        place.users += 1
        try:
            async with place.lock:
                if place.served is None:
                    place.served = await self._load(place.entry)
            yield place.served
        finally:
            place.users -= 1
            place.last = time.monotonic()

    async def refresh(self) -> None:
        """Follow the disk: new runs, newer checkpoints, finished models. Requests that run keep the model they have."""
        try:
            seen = await asyncio.to_thread(look, self.settings, dict(self._seen), self.entries)
        except OSError as error:  # a folder is gone, perhaps for a moment
            log.debug("%s; what was there is served on", error)
            return
        for each in seen:
            self._take(each)
            log.info("%s: %s", each.name, _told(each))

    async def tidy(self) -> None:
        """Unload what nobody has used for `settings.idle` seconds, and what has been replaced."""
        for place in list(self._places.values()):
            if place.served is not None and time.monotonic() - place.last >= self.settings.idle:
                await self._unload(place)
        for place in list(self._leaving):
            await self._unload(place)
        self._leaving = [place for place in self._leaving if place.served is not None or place.users]

    async def keep_tidy(self) -> None:
        """`refresh` and `tidy`, again and again."""
        while True:
            await asyncio.sleep(min(LOOK, self.settings.idle / 2))
            await self.refresh()
            await self.tidy()

    async def close(self) -> None:
        """Stop every model; answers that are still being written end with an error."""
        for place in self._held():
            served, place.served = place.served, None
            if served is not None:
                await asyncio.to_thread(served.worker.close)

    def _held(self) -> list[_Place]:
        """What is in memory."""
        return [place for place in (*self._places.values(), *self._leaving) if place.served is not None]

    def _take(self, seen: Seen) -> None:
        """Note what a look has found."""
        self._seen[seen.path] = seen.version
        old = self._places.get(seen.name)
        if seen.entry is not None:
            self.waiting.pop(seen.name, None)
            self._places[seen.name] = _Place(seen.entry)
            self._leaving += [] if old is None else [old]
        elif old is None:
            self.waiting[seen.name] = str(seen.problem)

    async def _load(self, entry: Entry) -> Served:
        async with self._loading:
            await self._make_room(entry)
            begin = time.perf_counter()
            try:
                served = await asyncio.to_thread(load, entry, self.settings)
            except Exception as error:
                log.exception("%s (%s) cannot be loaded", entry.name, entry.path)
                reason = f"the model {entry.name!r} cannot be loaded; the server's log says why"
                raise Refused(500, reason, "model", "model_failed") from error
        log.info("loaded %s in %.1f s, %.0f MB", entry.name, time.perf_counter() - begin, served.bytes / 1e6)
        return served

    async def _make_room(self, entry: Entry) -> None:
        """Unload the models that were used longest ago until this one fits."""
        budget = self.settings.memory
        while budget is not None and sum(place.served.bytes for place in self._held() if place.served) + entry.bytes > budget:
            unused = [place for place in self._held() if not place.users]
            if not unused:
                raise busy(f"there is no memory for {entry.name!r} while other models are in use")
            await self._unload(min(unused, key=lambda place: place.last))

    async def _unload(self, place: _Place) -> None:
        async with place.lock:
            if place.users or place.served is None:
                return
            served, place.served = place.served, None
            await asyncio.to_thread(served.worker.close)
        del served
        gc.collect()
        log.info("unloaded %s", place.entry.name)


def _told(seen: Seen) -> str:
    if seen.entry is None:
        return f"cannot be served as it is now: {seen.problem}"
    return "its finished model" if seen.entry.step is None else f"its weights after {seen.entry.step:,} updates"
