"""The OpenAPI document: what FastAPI derives from the routes, the bodies that they read themselves, and problems."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import problems
from service.schemas import BatchBody, CollectionBody, DeleteBody, DocumentsBody, Problem, SearchBody

REFERENCE = "#/components/schemas/{model}"
# What FastAPI doesn't see, since the routes read and answer it as bytes.
DESCRIBED: tuple[type[BaseModel], ...] = (BatchBody, CollectionBody, DeleteBody, DocumentsBody, SearchBody, Problem)


def takes(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """What a route that reads a JSON body of this form says of it (`openapi_extra`)."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": _reference(model)}}}}


def takes_search() -> dict[str, Any]:
    """What a route that reads a search, as JSON or beside a picture, says of its body."""
    extra = takes(SearchBody)
    extra["requestBody"]["content"]["multipart/form-data"] = {
        "schema": {
            "type": "object",
            "properties": {"request": _reference(SearchBody), "image": {"type": "string", "format": "binary"}},
            "required": ["image"],
        },
        "encoding": {"request": {"contentType": "application/json"}},
    }
    return extra


def install(app: FastAPI) -> None:
    """Makes the application serve this document. It is made once, when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, bodies = models_json_schema([(model, "validation") for model in DESCRIBED], ref_template=REFERENCE)
    made.setdefault("components", {}).setdefault("schemas", {}).update(bodies["$defs"])
    problem = {"description": "A problem (RFC 9457)", "content": {problems.MEDIA_TYPE: {"schema": _reference(Problem)}}}
    made["components"]["responses"] = {"Problem": problem}
    for path in made["paths"].values():
        for operation in path.values():
            # FastAPI's own form of a validation error is never sent.
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
    for unused in ("HTTPValidationError", "ValidationError"):
        made["components"]["schemas"].pop(unused, None)
    return made


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}
