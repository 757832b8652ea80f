"""Collections: list, describe, create, drop."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from retriever.encoder import Encoder
from retriever.errors import PolyseekError
from retriever.results import CollectionInfo
from service.bodies import json_body
from service.dependencies import CollectionName, InForce, OpenLibrary
from service.library import Library
from service.openapi import takes
from service.problems import Forbidden, problem
from service.responses import json_bytes
from service.schemas import CollectionBody, CollectionList
from service.settings import Settings

router = APIRouter(tags=["collections"])


@router.get("/v1/collections", responses={200: {"model": CollectionList}})
async def list_collections(library: OpenLibrary) -> Response:
    """Every collection with its size, encoder, index kind and generation, and the aliases."""
    return json_bytes(await library.call(_describe_all, library))


@router.get("/v1/collections/{name}", responses={200: {"model": CollectionInfo}})
async def describe_collection(name: CollectionName, library: OpenLibrary) -> Response:
    """One collection: sizes, encoder, index kind, measured recall, generation."""
    return json_bytes(await library.use(name, lambda collection: collection.info()))


@router.put(
    "/v1/collections/{name}",
    status_code=201,
    responses={201: {"model": CollectionInfo}},
    openapi_extra=takes(CollectionBody, required=False),
)
async def create_collection(
    name: CollectionName,
    body: Annotated[CollectionBody, Depends(json_body(CollectionBody))],
    library: OpenLibrary,
    settings: InForce,
) -> Response:
    """Create an empty collection; one of this name must not be there yet."""
    await library.writes.run(partial(_create, library, settings, name, body))
    return json_bytes(await library.use(name, lambda collection: collection.info()), 201)


@router.delete("/v1/collections/{name}", status_code=204)
async def drop_collection(name: CollectionName, library: OpenLibrary) -> Response:
    """Drop a collection and everything in it."""
    await library.writes.run(partial(library.drop, name))
    return Response(status_code=204)


def _describe_all(library: Library) -> dict[str, Any]:
    described = [_describe(library, name) for name in library.root.names()]
    return {"collections": described, "aliases": library.root.aliases()}


def _describe(library: Library, name: str) -> Any:  # noqa: ANN401 - a CollectionInfo or a problem, both JSON objects
    try:
        return library.using(name, lambda collection: collection.info())
    except PolyseekError as error:
        return {"name": name, "problem": problem(error, f"/v1/collections/{name}")}


def _create(library: Library, settings: Settings, name: str, body: CollectionBody) -> None:
    library.root.create(
        name,
        encoder=None if body.encoder == "none" else _encoder(library, settings, body.encoder),
        kind=body.kind,
        passages=body.passages,
        recall=body.recall,
        language=body.language,
    ).close()


def _encoder(library: Library, settings: Settings, name: str) -> Encoder:
    """An encoder that clients may name: any other name would have this machine read a folder, or ask the hub."""
    if name not in settings.encoders and name not in (built := library.encoders()):
        known = ", ".join(dict.fromkeys([*settings.encoders, *built, "none"]))
        raise Forbidden(
            f"clients may not name the encoder {name!r:.200}",
            hint=f"they may name {known}; the setting `encoders` allows others",
        )
    return library.root.load_encoder(name)
