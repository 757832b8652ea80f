"""What routes ask for by type: the library, the settings, and parts of the path as the client meant them.

They are coroutines, since FastAPI sends plain functions to a thread.
"""

from typing import Annotated, cast
from urllib.parse import unquote

from fastapi import Depends, Path
from starlette.requests import Request

from retriever.errors import InvalidRequest
from service.library import Library
from service.settings import Settings


async def _library(request: Request) -> Library:
    return cast(Library, request.app.state.library)


async def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def _decoded(value: str) -> str:
    """A part of the path, which `PathsAsSent` left percent-encoded."""
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{value} in the path is not UTF-8", hint="percent-encode it as UTF-8") from None


async def _name(name: Annotated[str, Path(description="A collection or an alias.")]) -> str:
    return _decoded(name)


async def _id(id: Annotated[str, Path(description="A document's id, percent-encoded (`/` as `%2F`).")]) -> str:  # noqa: A002
    return _decoded(id)


OpenLibrary = Annotated[Library, Depends(_library)]
InForce = Annotated[Settings, Depends(_settings)]
CollectionName = Annotated[str, Depends(_name)]
DocumentId = Annotated[str, Depends(_id)]
