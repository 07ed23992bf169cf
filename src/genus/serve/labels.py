"""/v1/classify: what a tuned model says of texts, as `genus predict` would."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from genus.serve import answers
from genus.serve.asked import ClassifyRequest
from genus.serve.errors import invalid
from genus.serve.served import Served
from genus.serve.service import Service
from genus.serve.stream import unless_gone

AT_ONCE = 16  # rows that are read before others have their turn


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/classify", responses=answers.whole(answers.Labels), summary="Labels of texts")
    async def classify(asked: ClassifyRequest, http: Request) -> Response:
        async def work() -> dict[str, Any]:
            async with service.model(asked.model, "classify") as served:
                return await label(service, served, asked)

        return await unless_gone(http, work(), JSONResponse)

    return routes


async def label(service: Service, served: Served, asked: ClassifyRequest) -> dict[str, Any]:
    """The answer to a request.

    Raises:
        Refused: a row lacks a column that the model reads, or there are too many rows.
    """
    assert served.labeller is not None, "a model that classifies was loaded without its labels"
    labeller, limits = served.labeller, service.settings.limits
    rows = [row if isinstance(row, dict) else {labeller.task.columns[0]: row} for row in asked.rows]
    if not 0 < len(rows) <= limits.inputs:
        raise invalid(f"send 1 to {limits.inputs} texts at once, not {len(rows)}", "input", "too_many_texts")
    for place, row in enumerate(rows):
        problem = labeller.task.problem(row, labelled=False)
        if problem is not None:
            param = f"input.{place}" if isinstance(asked.input, list) else "input"
            raise invalid(f"{problem}; the model reads the columns {', '.join(labeller.task.columns[:-1])}", param)
    data: list[dict[str, Any]] = []
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        found = await served.worker.call(lambda part=part: labeller(part))  # type: ignore[misc]
        data += [{"index": start + i, **each} for i, each in enumerate(found)]
    return {"object": "list", "model": asked.model, "task": labeller.task.name, "data": data}
