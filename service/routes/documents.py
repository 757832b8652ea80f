"""Documents: put, get, delete, scroll, pictures."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Depends, Query, Request, Response

from retriever.collection import THUMBNAIL_SIZES, Collection
from retriever.documents import record_id
from retriever.errors import InvalidRequest, UnknownDocument
from retriever.results import DeleteResult, Rejected, WriteResult
from service.bodies import (
    check_count,
    check_picture_size,
    check_texts,
    decode_base64,
    json_body,
    parse_json,
    parse_members,
    texts_in,
)
from service.dependencies import CollectionName, DocumentId, InForce, OpenLibrary
from service.library import Library
from service.openapi import takes
from service.problems import BodyTooLarge
from service.responses import json_bytes
from service.schemas import DeleteBody, DocumentPage, DocumentsBody, StoredDocument
from service.settings import Settings
from service.telemetry import Metrics

R = TypeVar("R")

router = APIRouter(tags=["documents"])


@router.put(
    "/v1/collections/{name}/documents", responses={200: {"model": WriteResult}}, openapi_extra=takes(DocumentsBody)
)
async def put_documents(
    request: Request,
    name: CollectionName,
    body: Annotated[DocumentsBody, Depends(json_body(DocumentsBody, parse=parse_members))],
    settings: InForce,
) -> Response:
    """Add documents, or replace those with the same ids. What was written is durable and found by the next search."""
    records = list(body.documents)
    check_count("/documents", len(records), settings.max_documents, "max_documents")
    return json_bytes(await _change(request, name, lambda collection: _put(collection, records, settings)))


@router.get("/v1/collections/{name}/documents", responses={200: {"model": DocumentPage}})
async def scroll_documents(
    name: CollectionName,
    library: OpenLibrary,
    cursor: Annotated[str | None, Query(description="`cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    filter: Annotated[str | None, Query(description="A filter, as JSON.")] = None,  # noqa: A002 - the parameter's name
) -> Response:
    """The documents in a stable order, page by page."""
    condition = None if filter is None else _filter(filter)
    page = await library.use(name, lambda collection: collection.scroll(cursor, limit, condition))
    return json_bytes({"documents": [document.to_record() for document in page.documents], "cursor": page.cursor})


@router.post(
    "/v1/collections/{name}/documents/delete", responses={200: {"model": DeleteResult}}, openapi_extra=takes(DeleteBody)
)
async def delete_documents(
    request: Request,
    name: CollectionName,
    body: Annotated[DeleteBody, Depends(json_body(DeleteBody))],
    settings: InForce,
) -> Response:
    """Delete documents by ids or by a filter; ids that aren't there are no error."""
    if (body.ids is None) == (body.filter is None):
        raise InvalidRequest(
            "a deletion needs `ids` or `filter`, and not both", hint='{"ids": ["a1"]} deletes one document'
        )
    check_count("/ids", len(body.ids or ()), settings.max_documents, "max_documents")
    check_texts((("/filter", text) for text in texts_in(body.filter)), settings)
    return json_bytes(await _change(request, name, lambda collection: collection.delete(body.ids, body.filter)))


# Before the route of a document, which would take `/image` as the end of an id.
@router.get(
    "/v1/collections/{name}/documents/{id:path}/image",
    responses={200: {"content": {"image/*": {}}, "description": "The picture, or its thumbnail as WebP"}},
    response_class=Response,
)
async def get_picture(
    name: CollectionName,
    id: DocumentId,  # noqa: A002 - the parameter's name
    library: OpenLibrary,
    size: Annotated[
        int | None,
        Query(
            ge=THUMBNAIL_SIZES.start,
            le=THUMBNAIL_SIZES.stop - 1,
            description="A thumbnail of at most so many pixels a side.",
        ),
    ] = None,
) -> Response:
    """A document's picture, or a thumbnail of it."""
    if size is not None:
        thumbnail = await library.use(name, lambda collection: collection.thumbnail(id, size))
        return Response(thumbnail, media_type="image/webp")
    picture, media_type = await library.use(name, lambda collection: collection.picture(id))
    return Response(picture, media_type=media_type)


@router.get("/v1/collections/{name}/documents/{id:path}", responses={200: {"model": StoredDocument}})
async def get_document(name: CollectionName, id: DocumentId, library: OpenLibrary) -> Response:  # noqa: A002
    """One document as it is stored."""
    return json_bytes(await library.use(name, lambda collection: collection.get(id).to_record()))


@router.delete("/v1/collections/{name}/documents/{id:path}", responses={200: {"model": DeleteResult}})
async def delete_document(request: Request, name: CollectionName, id: DocumentId) -> Response:  # noqa: A002
    """Delete one document."""
    result = await _change(request, name, lambda collection: collection.delete([id]))
    if not result.deleted:
        raise UnknownDocument(f"{name} holds no document {id}")
    return json_bytes(result)


async def _change(request: Request, name: str, work: Callable[[Collection], R]) -> R:
    """What `work` returns for a collection that it writes to; errors as for `Library.change`."""
    metrics = cast(Metrics, request.app.state.metrics)

    def timed(collection: Collection) -> R:
        started = time.perf_counter()
        result = work(collection)
        metrics.stage_seconds.labels("write").observe(time.perf_counter() - started)
        return result

    return await cast(Library, request.app.state.library).change(name, timed)


def _filter(text: str) -> dict[str, Any]:
    condition = parse_json(text.encode())
    if not isinstance(condition, dict):
        raise InvalidRequest("filter must be a JSON object", hint='filter={"year": {"gte": 2020}}, percent-encoded')
    return condition


def _put(collection: Collection, records: list[Any], settings: Settings) -> WriteResult:
    """Put what is well formed; the places of rejected documents are those of the request."""
    taken: list[Any] = []
    places: list[int] = []
    rejected: list[Rejected] = []
    for index, record in enumerate(records):
        try:
            taken.append(_with_picture(record, settings))
            places.append(index)
        except (ValueError, BodyTooLarge) as error:
            rejected.append(Rejected(index, record_id(record), f"image: {error}"))
    result = collection.upsert(taken)
    rejected += [replace(each, index=places[each.index]) for each in result.rejected]
    return replace(result, rejected=sorted(rejected, key=lambda each: each.index))


def _with_picture(record: Any, settings: Settings) -> Any:  # noqa: ANN401 - whatever the client sent
    """The record with its base64 picture as bytes. Raises ValueError, BodyTooLarge."""
    if not isinstance(record, dict) or not isinstance(record.get("image"), str):
        return record
    picture = decode_base64(record["image"])
    assert isinstance(picture, bytes)
    check_picture_size(picture, settings)
    return {**record, "image": picture}
