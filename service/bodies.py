"""Bodies of requests: their type, size and form, and base64 pictures, each with an error that says what and where.

The web framework's own parsing is not used for bodies: a search comes as JSON or as multipart under one route, and one
way of reading gives one kind of error.
"""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from email.message import Message
from functools import lru_cache
from typing import NoReturn, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from retriever.errors import InvalidRequest
from service.problems import BodyTooLarge, MalformedRequest, UnsupportedMediaType
from service.settings import Settings

M = TypeVar("M", bound=BaseModel)


def parse_json(text: bytes) -> object:
    """The value of a JSON text. Raises InvalidRequest."""
    try:
        return orjson.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"not valid JSON: {error}") from None


def parse_members(text: bytes) -> object:
    """As `parse_json`, but with lone surrogates, so that only the document or search that holds one is refused."""
    try:
        return orjson.loads(text)
    except ValueError:
        pass
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"not valid JSON: {error}") from None


def json_body(model: type[M], *, parse: Callable[[bytes], object] = parse_json) -> Callable[[Request], Awaitable[M]]:
    """A dependency that reads a JSON body of this form; an empty body is an empty object."""

    async def read(request: Request) -> M:
        if (kind := media_type(request)) not in ("application/json", None):
            raise _unsupported(kind, "application/json")
        return validated(model, parse(await request.body() or b"{}"))

    return read


async def search_parts(request: Request) -> tuple[object, bytes | None]:
    """The JSON of a search and the picture that came beside it in a multipart body."""
    kind = media_type(request)
    if kind in ("application/json", None):
        return parse_json(await request.body() or b"{}"), None
    if kind != "multipart/form-data":
        raise _unsupported(kind, "application/json or multipart/form-data")
    settings: Settings = request.app.state.settings
    async with request.form(max_files=2, max_fields=2, max_part_size=settings.max_body_bytes) as form:
        if unknown := sorted(set(form) - {"request", "image"}):
            raise InvalidRequest(
                f"unknown part {unknown[0]!r}", hint="the parts are `request` (JSON) and `image` (a file)"
            )
        document = await _part(form.get("request"))
        picture = await _part(form.get("image"))
    if picture is not None:
        check_picture_size(picture, settings)
    return parse_json(document or b"{}"), picture


def media_type(request: Request) -> str | None:
    """The type of the body without its parameters, None where the client named none."""
    header = request.headers.get("content-type")
    return None if header is None else _without_parameters(header)


@lru_cache(maxsize=64)  # parsing one takes 20 us
def _without_parameters(header: str) -> str:
    message = Message()
    message["content-type"] = header
    return message.get_content_type()


def validated(model: type[M], value: object) -> M:
    """The value as this model. Raises MalformedRequest with every fault."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise MalformedRequest.of(error) from None


def decode_base64(value: object) -> object:
    """The bytes of a base64 text (RFC 4648, section 4); anything but a text is returned as it is.

    Raises ValueError.
    """
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not base64: {error}") from None


def check_count(pointer: str, count: int, limit: int, setting: str) -> None:
    """Raises MalformedRequest where a list has more members than `setting` lets it have."""
    if count > limit:
        raise MalformedRequest([{"pointer": pointer, "detail": f"has {count} members, {setting} is {limit}"}])


def check_texts(texts: Iterable[tuple[str, str]], settings: Settings) -> None:
    """Raises MalformedRequest with the place of every text that is too long. texts: a pointer and a text each."""
    limit = settings.max_text_characters
    if too_long := [(pointer, len(text)) for pointer, text in texts if len(text) > limit]:
        raise MalformedRequest(
            {"pointer": pointer, "detail": f"has {length} characters, max_text_characters is {limit}"}
            for pointer, length in too_long
        )


def texts_in(value: object) -> Iterator[str]:
    """Every text in a JSON value, names of members as well, however deep it nests."""
    left = [value]
    while left:
        match left.pop():
            case str(text):
                yield text
            case dict() as members:
                left.extend((*members, *members.values()))
            case list() as members:
                left.extend(members)


def check_picture_size(picture: bytes, settings: Settings) -> None:
    """Raises BodyTooLarge."""
    if len(picture) > settings.max_picture_bytes:
        raise BodyTooLarge(
            f"the picture has {len(picture)} bytes, the limit is {settings.max_picture_bytes}",
            hint="send a smaller picture, or raise max_picture_bytes",
        )


async def _part(part: UploadFile | str | None) -> bytes | None:
    """A part's content, whether its client sent it as a field or as a file."""
    if part is None:
        return None
    return part.encode() if isinstance(part, str) else await part.read()


def _unsupported(kind: str | None, wanted: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(
        f"a body of type {kind} is not taken here", hint=f"send it with the header Content-Type: {wanted}"
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
