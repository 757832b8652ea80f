"""The API's description, and its page: Swagger UI, from files of this installation alone."""

from functools import cache
from importlib import resources

from fastapi import APIRouter, Request, Response

from service import openapi
from service.problems import UnknownRoute
from service.responses import json_bytes

router = APIRouter(include_in_schema=False)

HEADERS = {
    # Its style sheet holds icons as data; its scripts compile nothing and load nothing.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
MEDIA_TYPES = {"swagger-ui.css": "text/css; charset=utf-8", "swagger-ui-bundle.js": "text/javascript; charset=utf-8"}
PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>Polyseek: the API</title>
    <link rel="icon" href="page/icon.svg" type="image/svg+xml">
    <link rel="stylesheet" href="docs/swagger-ui.css">
    <script defer src="docs/swagger-ui-bundle.js"></script>
    <script defer src="page/docs.js"></script>
  </head>
  <body>
    <main id="api"></main>
    <noscript><p>This page needs JavaScript; <a href="openapi.json">openapi.json</a> says the same.</p></noscript>
  </body>
</html>
"""


@router.get("/openapi.json")
async def description(request: Request) -> Response:
    """The OpenAPI document."""
    return json_bytes(openapi.document(request.app))


@router.get("/docs")
async def index() -> Response:
    """The page."""
    return Response(PAGE, headers=HEADERS, media_type="text/html; charset=utf-8")


@router.get("/docs/{file}")
async def swagger_file(request: Request, file: str) -> Response:
    """Swagger UI's style sheet or script."""
    if file not in MEDIA_TYPES:
        raise UnknownRoute(f"there is no {request.url.path}", hint="the API's page is at /docs")
    return Response(_content(file), headers=HEADERS, media_type=MEDIA_TYPES[file])


@cache
def _content(file: str) -> bytes:
    # This package bundles Swagger UI for FastAPI; nothing but its files is used.
    return (resources.files("fastapi_offline") / "static" / file).read_bytes()
