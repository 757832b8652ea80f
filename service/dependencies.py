"""What routes ask for by type: the library, the settings, and parts of the path as the client meant them.

They are coroutines, since FastAPI sends plain functions to a thread.
"""

from typing import Annotated, cast
from urllib.parse import unquote

from fastapi import Depends, Path
from pydantic import AfterValidator
from starlette.requests import Request

from retriever.errors import InvalidRequest
from retriever.root import NAME
from service.library import Library
from service.settings import Settings


async def _library(request: Request) -> Library:
    return cast(Library, request.app.state.library)


async def _settings(request: Request) -> Settings:
    return cast(Settings, request.app.state.settings)


def _decoded(value: str) -> str:
    """A part of the path, which the gate left percent-encoded."""
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{value} in the path is not UTF-8", hint="percent-encode it as UTF-8") from None


# Described only: the framework would check paths as they were sent, and say less than the library does.
_NAME = Path(
    description="A collection or an alias.", json_schema_extra={"pattern": f"^{NAME.pattern}$", "maxLength": 64}
)
_ID = Path(
    description="A document's id, percent-encoded (`/` as `%2F`).", json_schema_extra={"minLength": 1, "maxLength": 512}
)

OpenLibrary = Annotated[Library, Depends(_library)]
InForce = Annotated[Settings, Depends(_settings)]
CollectionName = Annotated[str, AfterValidator(_decoded), _NAME]
DocumentId = Annotated[str, AfterValidator(_decoded), _ID]
