"""Texts in the order that a cross-encoder gives them, in the form that clients of such services expect."""

import time
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from numpy.typing import NDArray

from service import logs
from service.bodies import check_count, check_texts, json_body
from service.dependencies import InForce, OpenLibrary
from service.library import Library
from service.openapi import takes
from service.problems import UnknownModel
from service.responses import json_bytes
from service.schemas import RerankBody, RerankResponse
from service.waiting import for_client

router = APIRouter(tags=["models"])

# Documents read before the next request gets its turn, and before it is seen whether anybody still waits for them.
TURN = 32


@router.post("/v1/rerank", responses={200: {"model": RerankResponse}}, openapi_extra=takes(RerankBody))
async def rerank(
    request: Request,
    body: Annotated[RerankBody, Depends(json_body(RerankBody))],
    library: OpenLibrary,
    settings: InForce,
) -> Response:
    """Documents ordered by a cross-encoder, which reads each together with the query; the best one first."""
    check_count("/documents", len(body.documents), settings.max_batch, "max_batch")
    documents = ((f"/documents/{place}", text) for place, text in enumerate(body.documents))
    check_texts([("/query", body.query), *documents], settings)
    logs.note_texts(body.query, settings)
    deadline = time.monotonic() + settings.max_timeout
    scores = await for_client(request, deadline, _scores(library, body, deadline))
    best = np.argsort(-scores, kind="stable")[: body.top_n]
    return json_bytes({"model": library.root.reranker_name, "results": [_result(body, scores, int(i)) for i in best]})


async def _scores(library: Library, body: RerankBody, deadline: float) -> NDArray[np.float32]:
    """The score of each document. Raises NoReranker, UnknownModel, ModelUnavailable."""
    name = library.root.reranker_name
    if name is not None and body.model not in (None, name):
        raise UnknownModel(f"the reranker is not {body.model!r:.200}", hint=f"it is {name}; or leave model out")
    reranker = await library.loads.run(library.root.reranker, deadline)
    turns = [body.documents[start : start + TURN] for start in range(0, len(body.documents), TURN)]
    scores = [await library.reads.run(partial(reranker.score, body.query, texts), deadline) for texts in turns]
    return np.concatenate(scores)


def _result(body: RerankBody, scores: NDArray[np.float32], index: int) -> dict[str, Any]:
    result = {"index": index, "relevance_score": scores[index]}
    return {**result, "document": {"text": body.documents[index]}} if body.return_documents else result
