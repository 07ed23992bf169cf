"""/v1/classify: what a tuned model says of texts, as `genus predict` would."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from genus.serve import answers
from genus.serve.asked import ClassifyRequest
from genus.serve.errors import invalid
from genus.serve.served import Served
from genus.serve.service import Service


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/classify", responses=answers.whole(answers.Labels), summary="Labels of texts")
    async def classify(asked: ClassifyRequest, http: Request) -> Response:
        return await service.reply(http, asked.model, "classify", lambda served: label(service, served, asked))

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
    found = await served.worker.each(rows, labeller)
    data = [{"index": place, **each} for place, each in enumerate(found)]
    return {"object": "list", "model": asked.model, "task": labeller.task.name, "data": data}
