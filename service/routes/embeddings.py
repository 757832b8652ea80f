"""Vectors of texts, in the form of OpenAI's route of the same name."""

import base64
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, cast

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from numpy.typing import NDArray

from retriever.encoder import Encoder
from retriever.errors import PolyseekError
from service.batching import Batchers, Vector
from service.bodies import check_count, check_texts, json_body
from service.dependencies import InForce, OpenLibrary
from service.library import Library
from service.openapi import takes
from service.problems import UnknownModel
from service.responses import json_bytes
from service.schemas import EmbeddingsBody, EmbeddingsResponse
from service.settings import Settings
from service.waiting import for_client

router = APIRouter(tags=["models"])


@router.post("/v1/embeddings", responses={200: {"model": EmbeddingsResponse}}, openapi_extra=takes(EmbeddingsBody))
async def create_embeddings(
    request: Request,
    body: Annotated[EmbeddingsBody, Depends(json_body(EmbeddingsBody))],
    library: OpenLibrary,
    settings: InForce,
) -> Response:
    """Vectors of texts, in OpenAI's form: its clients work as they are. A text too long for the model is cut."""
    check_count("/input", len(body.input), settings.max_batch, "max_batch")
    check_texts(((f"/input/{place}", text) for place, text in enumerate(body.input)), settings)
    deadline = time.monotonic() + settings.max_timeout
    batchers = cast(Batchers, request.app.state.batchers)

    async def work() -> tuple[Encoder, list[Vector | PolyseekError]]:
        encoder = await _encoder(body.model, library, settings, deadline)
        encoder.check_dimension(body.dimensions or encoder.dimension)
        return encoder, await batchers.encode(encoder, body.input, body.input_type, deadline)

    encoder, made = await for_client(request, deadline, work())
    vectors = [_vector(place, outcome) for place, outcome in enumerate(made)]
    rows = encoder.shortened(np.stack([vector.vector for vector in vectors]), body.dimensions or encoder.dimension)
    return json_bytes(_answer(body, vectors, rows))


def _answer(body: EmbeddingsBody, vectors: Sequence[Vector], rows: NDArray[np.float32]) -> dict[str, Any]:
    tokens = sum(vector.tokens for vector in vectors)
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": place,
                "embedding": row if body.encoding_format == "float" else _base64(row),
                "truncated": vector.truncated,
            }
            for place, (vector, row) in enumerate(zip(vectors, rows, strict=True))
        ],
        "model": body.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


async def _encoder(name: str, library: Library, settings: Settings, deadline: float) -> Encoder:
    """An encoder that clients may name: one of the settings, or of a collection. Raises UnknownModel."""
    if name not in settings.encoders:
        built = await library.reads.run(library.encoders, deadline)
        if name not in built:
            known = ", ".join(dict.fromkeys([*settings.encoders, *built])) or "none"
            raise UnknownModel(f"there is no model {name!r:.200}", hint=f"there are: {known}")
    if (loaded := library.root.loaded_encoder(name)) is not None:
        return loaded
    return await library.loads.run(partial(library.root.load_encoder, name), deadline)


def _vector(place: int, outcome: Vector | PolyseekError) -> Vector:
    """The vector of one input; one that failed fails the request, as it does at OpenAI, and is named."""
    if isinstance(outcome, PolyseekError):
        raise type(outcome)(f"input {place}: {outcome}", hint=outcome.hint)
    return outcome


def _base64(row: NDArray[np.float32]) -> Any:  # noqa: ANN401 - mypy doesn't know numpy's byte orders
    """Little-endian float32 as base64."""
    return base64.b64encode(row.astype("<f4").tobytes()).decode()
