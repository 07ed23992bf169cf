"""/v1/embeddings: vectors of texts, of length 1, so that a product of two is their cosine."""

from __future__ import annotations

import asyncio
import base64
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from genus.serve import answers
from genus.serve.asked import EmbeddingRequest
from genus.serve.errors import invalid
from genus.serve.served import Served
from genus.serve.service import Service


def router(service: Service) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/embeddings", responses=answers.whole(answers.Embeddings), summary="Vectors of texts")
    async def embeddings(asked: EmbeddingRequest, http: Request) -> Response:
        return await service.reply(http, asked.model, "embed", lambda served: embed(service, served, asked))

    return routes


async def embed(service: Service, served: Served, asked: EmbeddingRequest) -> dict[str, Any]:
    """The answer to a request.

    Raises:
        Refused: a text is longer than the model reads, there are too many, or another number of dimensions is asked for.
    """
    from genus.tune.features import features

    texts = texts_of(asked, served)
    limits = service.settings.limits
    if len(texts) > limits.inputs:
        raise invalid(f"{len(texts)} texts are more than one request may have ({limits.inputs})", "input", "too_many_texts")
    most = min(limits.prompt, served.reads or limits.prompt)
    lengths = await asyncio.to_thread(lambda: [len(served.tokenizer.frame(text)[0]) for text in texts])
    for place, length in enumerate(lengths):
        if length > most:
            param = f"input.{place}" if isinstance(asked.input, list) else "input"
            message = f"this has {length:,} tokens and the model {served.entry.name!r} reads {most:,} at once; send it in parts"
            raise invalid(message, param, "context_length_exceeded")
    read = partial(features, served.loaded, None, pool=asked.pool, limit=most, dtype=served.dtype)
    found = np.stack(await served.worker.each(texts, read))
    if asked.dimensions not in (None, found.shape[1]):
        message = f"the vectors of {served.entry.name!r} have {found.shape[1]} numbers, no more and no fewer"
        raise invalid(message, "dimensions")
    found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    service.metrics.count("tokens", sum(lengths), model=served.entry.name, kind="read")
    data = [{"object": "embedding", "index": i, "embedding": _coded(row, asked)} for i, row in enumerate(found)]
    usage = {"prompt_tokens": sum(lengths), "total_tokens": sum(lengths)}
    return {"object": "list", "data": data, "model": asked.model, "usage": usage}


def texts_of(asked: EmbeddingRequest, served: Served) -> list[str]:
    """The texts of a request; token ids are turned into theirs.

    Raises:
        Refused: there is none, or an id that the vocabulary does not have.
    """
    given = asked.input
    if isinstance(given, str):
        return [given]
    if not given:
        raise invalid("it holds no text", "input")
    rows: list[Any] = [given] if isinstance(given[0], int) else given
    texts = []
    for place, row in enumerate(rows):
        if not isinstance(row, str):
            if not row or max(row) >= served.tokenizer.vocab_size:
                message = f"token ids must be below {served.tokenizer.vocab_size:,}, and there must be one"
                raise invalid(message, "input" if rows is not given else f"input.{place}")
            row = served.tokenizer.decode(row)
        texts.append(row)
    return texts


def _coded(row: np.ndarray, asked: EmbeddingRequest) -> list[float] | str:
    if asked.encoding_format == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    return row.tolist()  # type: ignore[no-any-return]
