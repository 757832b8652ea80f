"""Search: one (JSON, or multipart with a picture), or many at once."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from retriever.collection import Collection
from retriever.errors import InvalidRequest, PolyseekError, UnknownCollection
from service.bodies import check_picture_size, json_body, search_parts, validated
from service.dependencies import CollectionName, InForce, OpenLibrary
from service.library import Library
from service.openapi import takes, takes_search
from service.problems import problem
from service.responses import json_bytes
from service.schemas import BatchBody, BatchResponse, SearchBody, SearchResponse
from service.settings import Settings

router = APIRouter(tags=["search"])


async def _search_body(request: Request, settings: InForce) -> SearchBody:
    members, picture = await search_parts(request)
    search = _search(members, settings)
    if picture is None:
        return search
    if search.image is not None:
        raise InvalidRequest("there are two pictures", hint="send the picture as a part or in the JSON, not both")
    return search.model_copy(update={"image": picture})


@router.post("/v1/collections/{name}/search", responses={200: {"model": SearchResponse}}, openapi_extra=takes_search())
async def search_collection(
    name: CollectionName, search: Annotated[SearchBody, Depends(_search_body)], library: OpenLibrary
) -> Response:
    """Search by text, picture, stored documents or a vector."""
    await _reach(library, name, search)
    result = await library.use(name, lambda collection: collection.search(search))
    return json_bytes(result.to_dict())


@router.post(
    "/v1/collections/{name}/search/batch", responses={200: {"model": BatchResponse}}, openapi_extra=takes(BatchBody)
)
async def search_batch(
    request: Request,
    name: CollectionName,
    body: Annotated[BatchBody, Depends(json_body(BatchBody))],
    library: OpenLibrary,
    settings: InForce,
) -> Response:
    """Many searches at once, encoded together; the answers come in the same order."""
    searches = [await _ready(members, library, name, settings) for members in body.searches]
    results = await library.use(name, lambda collection: _search_each(collection, searches))
    here = request.url.path
    return json_bytes({"results": [_answer(result, f"{here}#/searches/{i}") for i, result in enumerate(results)]})


def _search(members: object, settings: Settings) -> SearchBody:
    search = validated(SearchBody, members)
    if search.image is not None:
        check_picture_size(search.image, settings)
    return search


async def _ready(members: object, library: Library, name: str, settings: Settings) -> SearchBody | PolyseekError:
    """A member of a batch that can be searched, or why it can't."""
    try:
        search = _search(members, settings)
        await _reach(library, name, search)
    except UnknownCollection:  # concerns the whole batch
        raise
    except PolyseekError as error:
        return error
    return search


async def _reach(library: Library, name: str, search: SearchBody) -> None:
    if search.min_generation is not None:
        await library.reach(name, search.min_generation, search.timeout)


def _search_each(collection: Collection, searches: list[SearchBody | PolyseekError]) -> list[Any]:
    """A result or an error for each search, the valid ones searched in one call."""
    found = iter(collection.search_many([search for search in searches if isinstance(search, SearchBody)]))
    return [next(found) if isinstance(search, SearchBody) else search for search in searches]


def _answer(result: Any, instance: str) -> dict[str, Any]:  # noqa: ANN401 - a SearchResult or an error
    return problem(result, instance) if isinstance(result, PolyseekError) else result.to_dict()
