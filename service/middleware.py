"""What happens around every request, before and after its route: paths as sent, the body's limit, the key."""

import hmac

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import BodyTooLarge, Unauthorized, problem_response

# Open without a key: health checks and the page's shell, which holds no data.
OPEN_PATHS = frozenset({"/", "/livez", "/readyz"})
OPEN_PREFIX = "/page/"


class PathsAsSent:
    """Routes see paths as the client encoded them, so that an id may hold a slash (as `%2F`); they decode ids."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            scope["path"] = scope["raw_path"].decode("ascii")
        await self.app(scope, receive, send)


class BodyLimit:
    """Refuses a body as soon as its length, announced or received, is above `limit` bytes."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises BodyTooLarge inside the route that reads the body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = int(Headers(scope=scope).get("content-length", "0"))
        received = 0

        async def limited() -> Message:
            nonlocal received
            if announced > self.limit:
                raise self._refusal(announced)
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise self._refusal(received)
            return message

        await self.app(scope, limited, send)

    def _refusal(self, size: int) -> BodyTooLarge:
        return BodyTooLarge(
            f"the body has {size} bytes or more, the limit is {self.limit}",
            hint="send fewer documents at a time, or raise max_body_bytes",
        )


class KeyCheck:
    """Asks for `Authorization: Bearer KEY` on every path that holds data."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http" and not self._may_pass(scope):
            error = Unauthorized("no key, or not this service's", hint="send the header Authorization: Bearer KEY")
            await problem_response(error, Request(scope).url.path)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return True
        scheme, _, key = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key)
