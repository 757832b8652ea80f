"""The OpenAPI document: what FastAPI derives from the routes, the bodies that they read themselves, and problems.

docs/openapi.json holds it, so that a change of the interface is seen in review: `python -m service.openapi` prints it.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from retriever.errors import PolyseekError
from service import problems
from service.keys import Scope
from service.schemas import (
    BatchBody,
    CollectionBody,
    DeleteBody,
    DocumentsBody,
    EmbeddingsBody,
    Problem,
    RerankBody,
    SearchBody,
)
from service.security import scope_of
from service.settings import Settings

REFERENCE = "#/components/schemas/{model}"
# What FastAPI doesn't see, since the routes read and answer it as bytes.
DESCRIBED: tuple[type[BaseModel], ...] = (
    BatchBody, CollectionBody, DeleteBody, DocumentsBody, EmbeddingsBody, RerankBody, SearchBody, Problem
)  # fmt: skip
TAGS = [
    {"name": "search", "description": "Find documents by text, picture, stored documents or a vector."},
    {"name": "documents", "description": "Put, get, list and delete documents."},
    {"name": "collections", "description": "Create, describe and drop collections."},
    {"name": "models", "description": "The encoders and the cross-encoder by themselves."},
    {"name": "operation", "description": "Alive, ready, metrics."},
]
KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key that `polyseek keys new` made; none is needed while the service has none and listens on "
    "loopback.",
}
# How a request may be refused before or instead of its work, and the headers that say more.
REFUSALS: dict[type[PolyseekError], tuple[str, ...]] = {
    problems.Unauthorized: ("WWW-Authenticate",),
    problems.Forbidden: (),
    problems.RateLimited: ("Retry-After",),
    problems.Overloaded: ("Retry-After",),
    problems.TimedOut: (),
}
HEADERS = {
    "Retry-After": {"description": "Seconds to wait before asking again.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "How to authenticate: `Bearer`.", "schema": {"type": "string"}},
    "X-Request-ID": {
        "description": "The id under which the service's log speaks of this request; the client's own, where it sent "
        "one.",
        "schema": {"type": "string"},
    },
}


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
            "additionalProperties": False,
        },
        "encoding": {"request": {"contentType": "application/json"}},
    }
    return extra


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an application; made once, when it is first asked for."""
    if app.openapi_schema is None:
        app.openapi_schema = _made(app)
    return app.openapi_schema


def _made(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes, tags=TAGS)
    _, bodies = models_json_schema([(model, "validation") for model in DESCRIBED], ref_template=REFERENCE)
    parts = made.setdefault("components", {})
    parts.setdefault("schemas", {}).update(bodies["$defs"])
    for unused in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(unused, None)
    parts["headers"] = HEADERS
    parts["responses"] = {"Problem": _problem("Any other error")} | {kind.__name__: _refusal(kind) for kind in REFUSALS}
    parts["securitySchemes"] = {"key": KEY}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            _complete(operation, scope_of(method.upper(), path))
    return made


def _complete(operation: dict[str, Any], scope: Scope | None) -> None:
    """Add what FastAPI doesn't know of an operation: its scope, how it is refused, the headers of its answers."""
    answers = operation["responses"]
    for answer in answers.values():
        answer["headers"] = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    # FastAPI's own form of a validation error is never sent.
    answers.pop("422", None)
    if scope is None:
        operation["security"] = []
    else:
        operation["security"] = [{"key": [scope]}]
        operation["description"] += f"\n\nTakes a key of scope `{scope}`."
        for kind in REFUSALS:
            answers[str(kind.status)] = {"$ref": f"#/components/responses/{kind.__name__}"}
    answers["default"] = {"$ref": "#/components/responses/Problem"}


def _refusal(kind: type[PolyseekError]) -> dict[str, Any]:
    return _problem(str(kind.title), *REFUSALS[kind])


def _problem(description: str, *headers: str) -> dict[str, Any]:
    return {
        "description": f"{description}, as a problem (RFC 9457)",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in (*headers, "X-Request-ID")},
        "content": {problems.MEDIA_TYPE: {"schema": _reference(Problem)}},
    }


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def main() -> None:
    """Print the document, as docs/openapi.json holds it."""
    from service.app import create_app

    with TemporaryDirectory() as root:
        made = document(create_app(Settings(root=Path(root))))
    sys.stdout.write(json.dumps(made, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
