"""The files of the web page, held in memory: no path of a request ever reaches the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter, Request, Response

FOLDER = Path(__file__).with_name("page")
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".json": "application/json",
}


def router(folder: Path = FOLDER) -> APIRouter:
    """The page at "/", and an address for each of its other files; nothing when there is no page."""
    routes = APIRouter(include_in_schema=False)
    for file in sorted(folder.rglob("*")):
        if file.suffix in KINDS:
            address = f"/{file.relative_to(folder).as_posix()}"
            for path in ("/", address) if address == "/index.html" else (address,):
                routes.add_api_route(path, _giving(file.read_bytes(), KINDS[file.suffix]), methods=["GET", "HEAD"])
    return routes


def _giving(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that gives one file."""
    mark = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"ETag": mark, "Cache-Control": "no-cache"}

    async def give(http: Request) -> Response:
        if http.headers.get("if-none-match") == mark:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    return give
