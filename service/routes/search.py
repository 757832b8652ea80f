"""Search: one (JSON, or multipart with a picture), or many at once."""

from functools import partial
from typing import Annotated, Any, cast

import orjson
from fastapi import APIRouter, Depends, Request, Response

from retriever.errors import InvalidRequest, PolyseekError
from retriever.requests import SearchResult
from service import logs
from service.bodies import (
    check_count,
    check_picture_size,
    check_texts,
    json_body,
    parse_members,
    search_parts,
    texts_in,
    validated,
)
from service.dependencies import CollectionName, InForce
from service.openapi import takes, takes_search
from service.problems import problem
from service.schemas import BatchBody, BatchResponse, SearchBody, SearchResponse
from service.searching import Answers, Searching
from service.settings import Settings
from service.waiting import for_client

router = APIRouter(tags=["search"])


async def _search_body(request: Request) -> SearchBody:
    members, picture = await search_parts(request)
    search = _search(members, cast(Settings, request.app.state.settings))
    if picture is None:
        return search
    if search.image is not None:
        raise InvalidRequest("there are two pictures", hint="send the picture as a part or in the JSON, not both")
    return search.model_copy(update={"image": picture})


@router.post("/v1/collections/{name}/search", responses={200: {"model": SearchResponse}}, openapi_extra=takes_search())
async def search_collection(request: Request, name: CollectionName) -> Response:
    """Search by text, picture, stored documents or a vector."""
    # Not by dependencies of the framework, each of which takes some 20 us of a search's 1,000.
    search = await _search_body(request)
    logs.note_texts(search.text, cast(Settings, request.app.state.settings))
    searching = cast(Searching, request.app.state.searching)
    deadline = searching.deadline(search)
    found = await for_client(request, deadline, searching.one(name, search, deadline, _one))
    return Response(found, media_type="application/json")


@router.post(
    "/v1/collections/{name}/search/batch", responses={200: {"model": BatchResponse}}, openapi_extra=takes(BatchBody)
)
async def search_batch(
    request: Request,
    name: CollectionName,
    body: Annotated[BatchBody, Depends(json_body(BatchBody, parse=parse_members))],
    settings: InForce,
) -> Response:
    """Many searches at once, encoded together; the answers come in the same order."""
    check_count("/searches", len(body.searches), settings.max_batch, "max_batch")
    searching = cast(Searching, request.app.state.searching)
    searches = [_member(members, settings) for members in body.searches]
    logs.note_texts([search.text for search in searches if isinstance(search, SearchBody)], settings)
    usual = SearchBody()  # how long a bad member may take to be answered
    deadlines = [searching.deadline(search if isinstance(search, SearchBody) else usual) for search in searches]
    work = searching.each(name, searches, deadlines, partial(_each, f"{request.url.path}#/searches"))
    found = await for_client(request, max(deadlines, default=searching.deadline(usual)), work)
    return Response(found, media_type="application/json")


def _search(members: object, settings: Settings) -> SearchBody:
    search = validated(SearchBody, members)
    if search.image is not None:
        check_picture_size(search.image, settings)
    if isinstance(search.like, list):
        check_count("/like", len(search.like), settings.max_batch, "max_batch")
    texts = (("text", search.text), ("like", search.like), ("filter", search.filter))
    check_texts(((f"/{name}", text) for name, value in texts for text in texts_in(value)), settings)
    return search


def _member(members: object, settings: Settings) -> SearchBody | PolyseekError:
    """A member of a batch that can be searched, or why it can't."""
    try:
        return _search(members, settings)
    except PolyseekError as error:
        return error


def _one(answers: Answers) -> bytes:
    [result] = answers
    return orjson.dumps(_answer(result, ""))


def _each(here: str, answers: Answers) -> bytes:
    return orjson.dumps({"results": [_answer(result, f"{here}/{place}") for place, result in enumerate(answers)]})


def _answer(result: SearchResult | PolyseekError, instance: str) -> dict[str, Any]:
    return problem(result, instance) if isinstance(result, PolyseekError) else result.to_dict()
