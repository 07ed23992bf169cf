"""Errors as OpenAI's clients know them: `{"error": {"message", "type", "param", "code"}}`, `param` naming the field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

INVALID = "invalid_request_error"
KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
PHRASES = {404: "there is nothing at this address", 405: "this address does not know the method"}


class Refused(HTTPException):
    """A request that is not answered.

    Attributes:
        status: of HTTP. message: what to do about it. param: the field that is wrong. code: the same in one word, for programs.
        headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        """The error as JSON."""
        kind = KINDS.get(self.status, INVALID if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer outside of the application. What the client still sends is not read: the connection closes."""
        response = JSONResponse(self.body, self.status, {**(self.headers or {}), "Connection": "close"})
        await response(scope, receive, send)


def invalid(message: str, param: str | None = None, code: str | None = None) -> Refused:
    """A field with a wrong value."""
    return Refused(400, message, param, code)


@contextmanager
def named(param: str) -> Iterator[None]:
    """A ValueError of the library becomes one of the request's, with the name of the field that caused it."""
    try:
        yield
    except ValueError as error:
        raise invalid(str(error), param) from error


def busy(what: str) -> Refused:
    """Too much is asked of the server at once."""
    return Refused(429, f"{what}; try again in a moment", code="server_busy", headers={"Retry-After": "1"})


def install(app: FastAPI) -> None:
    """Let every error of the application have this shape."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def not_understood(request: Request, error: RequestValidationError) -> JSONResponse:
        return explained(error.errors(), error.body).response()

    @app.exception_handler(HTTPException)
    async def raised(request: Request, error: HTTPException) -> JSONResponse:
        message = PHRASES.get(error.status_code, str(error.detail))
        return Refused(error.status_code, message, headers=error.headers).response()

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return Refused(500, "the server failed at this request; its log says where", code="internal_error").response()


def explained(errors: Sequence[Any], body: Any) -> Refused:
    """The error of a request whose fields are not as they should be: of the one that pydantic came farthest with."""
    if any(each["type"] == "json_invalid" for each in errors):
        return invalid("the body is not JSON; send a JSON object with Content-Type: application/json")
    each = max(errors, key=lambda e: (e["type"] == "unknown", _depth(e["loc"], body)))
    path = [*_path(each["loc"], body), *filter(None, [each.get("ctx", {}).get("field")])]
    param = ".".join(map(str, path)) or None
    message = str(each["msg"]).removeprefix("Value error, ")
    if param is None and each["type"] in ("missing", "model_type", "model_attributes_type"):
        found = "missing" if each["type"] == "missing" else "JSON, but no object"
        message = f"the body is {found}; send a JSON object with Content-Type: application/json"
    return invalid(f"{param}: {message}" if param else message, param, each["type"])


def _path(location: Sequence[Any], body: Any) -> list[Any]:
    """The part of a location that is in the request: pydantic also names the members of a union that it tried."""
    path: list[Any] = []
    at, inside = body, True
    for step in location[1:]:
        if not inside:
            break
        if isinstance(at, dict) and isinstance(step, str):
            if step in at:
                path.append(step)
                at = at[step]
            elif step == location[-1] and not step.startswith(("function-", "list[", "constrained-")):
                path.append(step)  # it is missing
        elif isinstance(at, list) and isinstance(step, int) and step < len(at):
            path.append(step)
            at = at[step]
        elif isinstance(step, int):
            inside = False
    return path


def _depth(location: Sequence[Any], body: Any) -> int:
    return len(_path(location, body))
