"""What the page asks the server for, beside OpenAI's interface: models, attention, runs, and files to label.

Nothing here is meant for programs: `/v1/` is. Names in a request are looked up among those that the server was started with; none
becomes a path.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from genus.serve.errors import Refused, invalid, named
from genus.serve.predictions import Predictions
from genus.serve.watch import found

if TYPE_CHECKING:
    from genus.serve.models import Registry
    from genus.serve.served import Entry

LIVE = 60.0  # seconds since the last line of its metrics after which a run without an end counts as stopped
MOST_RUNS = 8  # of one comparison: as many as there are colours
VIEW = ("words.js", "dom.js", "attention.js", "attention.css")
TYPES = {".js": "text/javascript", ".css": "text/css"}


class Sentence(BaseModel):
    """What a model is to read while it is watched."""

    model_config = ConfigDict(extra="forbid")
    model: str
    text: str = Field(max_length=4096)
    target: str = Field("", max_length=4096)


class Upload(BaseModel):
    """A file that will come in pieces."""

    model_config = ConfigDict(extra="forbid")
    model: str
    name: str = Field(max_length=255)
    size: int = Field(ge=1)
    text: str | None = Field(None, max_length=255)


Names = Annotated[list[str], Query(alias="run", min_length=1, max_length=MOST_RUNS)]


def router(registry: Registry) -> APIRouter:
    """The addresses, for the models and runs of a registry."""

    predictions = Predictions()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        tidying = asyncio.create_task(predictions.keep_tidy())
        yield
        tidying.cancel()
        await asyncio.to_thread(predictions.close)

    api = APIRouter(include_in_schema=False, lifespan=lifespan)

    @api.get("/view/{name}")
    def view(name: str) -> Response:
        return _view(name)

    @api.get("/api/models")
    async def models() -> JSONResponse:
        return JSONResponse({"models": [_model(entry) for entry in registry.entries.values()]})

    @api.post("/api/explain")
    async def explain(asked: Sentence) -> JSONResponse:
        from genus.evaluate.explain import explain as explained

        async with registry.use(asked.model) as served:

            def work() -> dict[str, Any]:
                with named("text"):
                    return explained(served.loaded.model, served.tokenizer, asked.text, asked.target).to_json()

            return JSONResponse(await served.worker.call(work))

    @api.get("/api/runs")
    def runs() -> JSONResponse:
        return JSONResponse({"runs": [_run(name, path) for name, path in _runs(registry.settings.models).items()]})

    @api.get("/api/report")
    def report(names: Names, language: Literal["en", "zh"] = "en") -> HTMLResponse:
        from genus.report.page import page
        from genus.report.read import read_all

        there = _runs(registry.settings.models)
        missing = [name for name in names if name not in there]
        if missing:
            raise Refused(404, f"there is no run {missing[0]!r}", "run", "run_not_found")
        return HTMLResponse(page(read_all([there[name] for name in names]), language))

    @api.post("/api/predictions")
    async def upload(asked: Upload) -> JSONResponse:
        entry = registry.entry(asked.model)
        entry.must("classify")
        return JSONResponse(predictions.open(entry, asked.name, asked.size, asked.text))

    @api.put("/api/predictions/{number}")
    async def piece(number: str, request: Request, at: int = Query(ge=0)) -> JSONResponse:
        job = predictions.find(number)
        await predictions.add(job, at, await request.body())
        return JSONResponse(job.state())

    @api.get("/api/predictions/{number}")
    async def progress(number: str) -> JSONResponse:
        return JSONResponse(predictions.find(number).state())

    @api.delete("/api/predictions/{number}")
    async def cancel(number: str) -> JSONResponse:
        await predictions.drop(number)
        return JSONResponse({})

    @api.get("/api/predictions/{number}/file")
    async def labelled(number: str) -> FileResponse:
        job = predictions.find(number)
        if job.status != "done":
            raise invalid(f"the rows are not all labelled yet: {job.status}", "number")
        return FileResponse(job.output, filename=job.download, media_type="application/octet-stream")

    return api


def _view(name: str) -> Response:
    """A script or style that the page shares with the files that `genus explain` and `genus report` write."""
    from genus.report.style import STYLE

    if name == "report.css":
        return Response(STYLE, media_type="text/css")
    if name not in VIEW:
        raise Refused(404, "there is nothing at this address")
    text = (files("genus.report") / "view" / name).read_text(encoding="utf-8")
    return Response(text, media_type=TYPES[Path(name).suffix])


def _model(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "recipe": entry.recipe,
        "abilities": sorted(entry.abilities),
        "parameters": entry.parameters,
        "context": entry.context,
        "looks": entry.looks,
        "step": entry.step,
    }


def _runs(models: Sequence[str]) -> dict[str, Path]:
    """Every run that the server was started with, or that has begun since then in a folder it was started with."""
    return {name: path for name, path in found(models) if (path / "run.json").is_file()}


def _run(name: str, path: Path) -> dict[str, Any]:
    """The last of its figures, without reading what came before them."""
    from genus.report.read import number

    config = _json(path / "run.json")
    metrics = path / "metrics.jsonl"
    state, last = "stopped", _last(metrics)
    if (path / "model" / "config.json").is_file():
        state = "finished"
    elif metrics.is_file() and time.time() - metrics.stat().st_mtime < LIVE:
        state = "training"
    version = metrics.stat().st_mtime_ns if metrics.is_file() else 0
    recipe = config.get("recipe")
    told = {key: number(last.get(key)) for key in ("step", "tokens", "loss", "bpb")}
    return {
        "name": name,
        "recipe": str(recipe.get("name", "")) if isinstance(recipe, dict) else "",
        "state": state,
        "version": f"{version}-{state}",
        **told,
    }


def _last(path: Path, tail: int = 2**16) -> dict[str, Any]:
    """The last value of every field of a metrics.jsonl, as far as its end tells."""
    if not path.is_file():
        return {}
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - tail))
        lines = file.read().splitlines()
    told: dict[str, Any] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("kind") != "sample":
            told |= record
    return told


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
