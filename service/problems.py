"""Every error as an RFC 9457 problem object.

`code` is stable and says the same as `type`; `hint`, where there is one, says what to do. The problem of a malformed
request lists each fault under `errors`, with a JSON pointer (RFC 6901) or the parameter's name.
"""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from retriever.errors import InvalidRequest, PolyseekError

MEDIA_TYPE = "application/problem+json"


class MalformedRequest(InvalidRequest):
    """A body or parameter of the wrong form; `errors` says where, each with `pointer` or `parameter` and `detail`."""

    def __init__(self, errors: Iterable[Mapping[str, str]]) -> None:
        self.errors = list(errors)
        first = self.errors[0]
        super().__init__(f"{first.get('pointer') or first.get('parameter') or 'the body'}: {first['detail']}")

    @classmethod
    def of(cls, error: ValidationError) -> "MalformedRequest":
        """The same faults as Pydantic found in a body."""
        return cls({"pointer": _pointer(fault["loc"]), "detail": fault["msg"]} for fault in error.errors())


class BodyTooLarge(PolyseekError):
    """A body or a picture above the limit."""

    code, status, title = "body_too_large", 413, "Body too large"


class UnsupportedMediaType(PolyseekError):
    """A body of a type that the route doesn't take."""

    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class Unauthorized(PolyseekError):
    """A request without the key, or with another one."""

    code, status, title = "unauthorized", 401, "Unauthorized"


class Forbidden(PolyseekError):
    """A key that lacks the scope of the route, or something that the operator doesn't let clients do."""

    code, status, title = "forbidden", 403, "Forbidden"


class _Later(PolyseekError):
    """What may succeed later. retry_after: seconds, sent as the header `Retry-After`."""

    def __init__(self, message: str, *, hint: str = "", retry_after: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class RateLimited(_Later):
    """More requests than a key may make."""

    code, status, title = "rate_limited", 429, "Rate limited"


class Overloaded(_Later):
    """More work than may wait."""

    code, status, title = "overloaded", 503, "Overloaded"


class TimedOut(PolyseekError):
    """A search that wasn't answered within its timeout."""

    code, status, title = "timed_out", 504, "Timed out"


class ClientGone(PolyseekError):
    """A client that disconnected before its answer; only the log and the metrics see it, as with nginx's 499."""

    code, status, title = "client_gone", 499, "Client gone"


class NotReady(PolyseekError):
    """The service can't answer searches yet, or any more."""

    code, status, title = "not_ready", 503, "Not ready"


class UnknownRoute(PolyseekError):
    """A path that is no route."""

    code, status, title = "unknown_route", 404, "Unknown route"


class UnknownModel(PolyseekError):
    """A model that clients may not name, or that isn't the one configured."""

    code, status, title = "unknown_model", 404, "Unknown model"


class MethodNotAllowed(PolyseekError):
    """A route that has no such method; the header `Allow` lists those it has."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


def problem(error: PolyseekError, instance: str) -> dict[str, Any]:
    """The problem object of an error; instance: the path (and fragment) that it happened at."""
    members: dict[str, Any] = {
        "type": f"urn:polyseek:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": _encodable(str(error)),
        "instance": instance,
        "code": error.code,
    }
    if error.hint:
        members["hint"] = _encodable(error.hint)
    if isinstance(error, MalformedRequest):
        members["errors"] = [{name: _encodable(text) for name, text in fault.items()} for fault in error.errors]
    return members


def problem_response(error: PolyseekError, instance: str) -> Response:
    """The response for an error, with the headers that its status asks for."""
    headers: dict[str, str] = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, _Later):
        headers["Retry-After"] = str(error.retry_after)
    return Response(orjson.dumps(problem(error, instance)), error.status, headers, MEDIA_TYPE)


def install(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Makes the application answer every error as a problem. routers: all that it includes."""

    @app.exception_handler(PolyseekError)
    async def known(request: Request, error: PolyseekError) -> Response:
        return problem_response(error, request.url.path)

    @app.exception_handler(RequestValidationError)
    async def parameters(request: Request, error: RequestValidationError) -> Response:
        faults = ({"parameter": str(fault["loc"][-1]), "detail": str(fault["msg"])} for fault in error.errors())
        return problem_response(MalformedRequest(faults), request.url.path)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        response = problem_response(_of_framework(request, error), request.url.path)
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = ", ".join(sorted(_methods(request.url.path, routers)))
        return response


def _of_framework(request: Request, error: HTTPException) -> PolyseekError:
    """What the web framework refuses by itself: an unknown path, a wrong method, a broken multipart body."""
    asked = f"{request.method} {request.url.path}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        return UnknownRoute(f"there is no {asked}", hint="GET /openapi.json lists the routes")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(f"there is no {asked}", hint="the header Allow lists this path's methods")
    return InvalidRequest(str(error.detail))


def _methods(path: str, routers: Sequence[APIRouter]) -> set[str]:
    """The methods of every route of this path; the framework knows those of the first one only."""
    routes = (route for router in routers for route in router.routes if isinstance(route, APIRoute))
    found = {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}
    return found | {"HEAD"} if "GET" in found else found


def _pointer(location: Iterable[str | int]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in location)


def _encodable(text: str) -> str:
    """A message may quote a lone surrogate, which no JSON in UTF-8 can hold."""
    return text.encode(errors="backslashreplace").decode()
