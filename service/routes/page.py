"""The page: a few files of this package, read once, under a policy that lets them load nothing from elsewhere."""

from functools import cache
from importlib import resources

from fastapi import APIRouter, Request, Response

from service.problems import UnknownRoute

router = APIRouter(include_in_schema=False)

MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
HEADERS = {
    # Thumbnails are fetched with the key and shown as blobs; nothing else comes from anywhere but this service.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    # Nothing is ever set as HTML.
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # Asked for anew each time, so that the files of two releases are never mixed.
    "Cache-Control": "no-cache",
}


@router.get("/")
async def index() -> Response:
    """The page."""
    return _file("index.html")


@router.get("/status")
async def status() -> Response:
    """The operator's view."""
    return _file("status.html")


@router.get("/page/{file}")
async def page_file(request: Request, file: str) -> Response:
    """A style sheet, script or icon of the page."""
    if file not in _files():
        raise UnknownRoute(f"there is no {request.url.path}", hint="the page is at /")
    return _file(file)


def _file(name: str) -> Response:
    return Response(_files()[name], headers=HEADERS, media_type=MEDIA_TYPES[name.rpartition(".")[2]])


@cache
def _files() -> dict[str, bytes]:
    """The page's files by name."""
    folder = resources.files("service") / "page"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name.rpartition(".")[2] in MEDIA_TYPES}
