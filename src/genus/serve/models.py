"""Which models there are, and which of them are loaded: on demand, within a memory budget, until they are idle.

All book-keeping happens in the event loop; files are read in a thread beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from genus.run import CONFIG
from genus.serve.errors import Refused, busy
from genus.serve.served import Entry, Served, describe, load
from genus.serve.settings import Settings
from genus.spec import nearest

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

    Raises:
        ValueError: two models have one name, one cannot be served, or one is larger than the memory budget.
        FileNotFoundError: there is no model at a path.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._places: dict[str, _Place] = {}
        self._loading = asyncio.Lock()
        there = found(settings.models)
        for name, path in there:
            if len(there) > 1 and _unfinished(path):
                continue  # it trains: its curves are shown, and it cannot answer yet
            if name in self._places:
                other = self._places[name].entry.path
                raise ValueError(f"two models are called {name!r}: {other} and {path}; call one otherwise: other={path}")
            entry = describe(name, path)
            if settings.memory is not None and entry.bytes > settings.memory:
                raise ValueError(f"{path} takes about {entry.bytes / 1e9:.2f} GB, more than --memory allows")
            self._places[name] = _Place(entry)
        if not self._places:
            raise FileNotFoundError(
                f"none of the {len(there)} runs has a finished model yet; wait, or name one with genus train --resume"
            )

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
            Refused: no model has this name (404).
        """
        if name not in self._places:
            raise Refused(404, f"there is no model {name!r}{nearest(name, self._places)}", "model", "model_not_found")
        return self._places[name].entry

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

    async def tidy(self) -> None:
        """Unload what nobody has used for `settings.idle` seconds."""
        for place in self._places.values():
            if place.served is not None and time.monotonic() - place.last >= self.settings.idle:
                await self._unload(place)

    async def keep_tidy(self) -> None:
        """`tidy`, again and again."""
        while True:
            await asyncio.sleep(min(30.0, self.settings.idle / 2))
            await self.tidy()

    async def close(self) -> None:
        """Stop every model; answers that are still being written end with an error."""
        for place in self._places.values():
            served, place.served = place.served, None
            if served is not None:
                await asyncio.to_thread(served.worker.close)

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
        while budget is not None and sum(served.bytes for served in self.loaded.values()) + entry.bytes > budget:
            unused = [place for place in self._places.values() if place.served is not None and not place.users]
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


def found(models: Iterable[str]) -> list[tuple[str, Path]]:
    """Name and path of every model: what was given, and for a folder that holds models, each of them.

    Raises:
        FileNotFoundError: there is none at a path.
    """
    result = []
    for each in models:
        name, _, rest = each.partition("=")
        path = Path(each)
        if rest and not path.exists():
            path = Path(rest)
        else:
            name = Path(os.path.abspath(path)).name
        if _is_model(path):
            result.append((name, path))
            continue
        inside = sorted(child for child in path.iterdir() if _is_model(child)) if path.is_dir() else []
        if not inside:
            raise FileNotFoundError(f"{path} is neither a run nor a model folder, and holds none")
        prefix = f"{name}/" if rest and path == Path(rest) else ""
        result += [(prefix + child.name, child) for child in inside]
    return result


def _unfinished(path: Path) -> bool:
    return (path / CONFIG).is_file() and not (path / "model" / "config.json").is_file()


def _is_model(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return (path / CONFIG).is_file() or (path / "config.json").is_file()
    return False
