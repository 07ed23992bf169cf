"""The application: every address of the server, behind its guard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.utils import get_openapi

from genus import __version__
from genus.serve import answers, chat, completions, errors, labels, page, page_api, vectors
from genus.serve.guard import Guard
from genus.serve.metrics import CONTENT_TYPE, Labels
from genus.serve.models import Registry
from genus.serve.served import Entry
from genus.serve.service import Service
from genus.serve.settings import Settings


def create_app(settings: Settings, registry: Registry | None = None) -> FastAPI:
    """The server's application, for uvicorn or any other ASGI server.

    Args:
        registry: the models; None = those of the settings.

    Raises:
        ValueError, FileNotFoundError: as `Registry`.
    """
    service = Service(settings, registry or Registry(settings))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tidying = asyncio.create_task(service.registry.keep_tidy())
        try:
            yield
        finally:
            tidying.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tidying
            await service.registry.close()

    app = FastAPI(title="Genus", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.service = service
    errors.install(app)
    routers = [part.router(service) for part in (completions, chat, vectors, labels)] + [_about(service)]
    routers += [page_api.router(service.registry), page.router()]
    for router in routers:
        app.include_router(router)
    known = {path for router in routers for route in router.routes if isinstance(path := getattr(route, "path", None), str)}
    app.add_middleware(Guard, settings=settings, metrics=service.metrics, paths=known)
    app.openapi = lambda: _document(app, settings)  # type: ignore[method-assign]
    return app


def _about(service: Service) -> APIRouter:
    """What there is, and how it goes."""
    routes = APIRouter()
    registry = service.registry

    def shown(entry: Entry) -> dict[str, Any]:
        return {
            "id": entry.name,
            "object": "model",
            "created": entry.created,
            "owned_by": "genus",
            "recipe": entry.recipe,
            "abilities": sorted(entry.abilities),
            "parameters": entry.parameters,
            "context": entry.context,
            "loaded": entry.name in registry.loaded,
            "step": entry.step,
        }

    @routes.get("/v1/models", responses={200: {"model": answers.Models}, **answers.refusals(401, 403)}, summary="The models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [shown(entry) for entry in registry.entries.values()]}

    @routes.get(
        "/v1/models/{name:path}",
        responses={200: {"model": answers.Model}, **answers.refusals(401, 403, 404, 503)},
        summary="One of them",
    )
    async def model(name: str) -> dict[str, Any]:
        return shown(registry.entry(name))

    @routes.get("/health", responses={200: {"model": answers.Health}, **answers.refusals(403)}, summary="Whether it is there")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **answers.refusals(401, 403)},
        summary="Counters, for Prometheus",
    )
    async def metrics() -> Response:
        return Response(service.metrics.render(await gauges(service)), media_type=CONTENT_TYPE)

    return routes


async def gauges(service: Service) -> dict[str, dict[Labels, float]]:
    """What is read at the moment: of each loaded model its weights, and what its scheduler tells."""
    found: dict[str, dict[Labels, float]] = {"genus_weights_bytes": {}}
    for name, served in service.registry.loaded.items():
        labels_: Labels = (("model", name),)
        found["genus_weights_bytes"][labels_] = served.bytes
        stats = await served.worker.stats()
        for key, value in ({} if stats is None else vars(stats)).items():
            if isinstance(value, int | float):
                found.setdefault(f"genus_scheduler_{key}", {})[labels_] = value
    return found


def _document(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's, without the answer 422 that is never given, and with the key where one is needed."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        for address in document["paths"].values():
            for operation in address.values():
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            document.get("components", {}).get("schemas", {}).pop(unused, None)
        if settings.key is not None:
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}]
        app.openapi_schema = document
    return app.openapi_schema
