"""What happens around every request: paths as sent, who may ask, the body's limit, the headers of every answer.

One layer does it all: each would cost its share of every request.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retriever.errors import InvalidRequest, PolyseekError
from service import logs
from service.problems import BodyTooLarge, problem_response
from service.security import Guard

# Of answers that say nothing else of it; the page's files say more.
HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}


class Gate:
    """Lets a request in to its route, or answers why not. limit: bytes of a body."""

    def __init__(self, app: ASGIApp, guard: Guard, limit: int) -> None:
        self.app = app
        self.guard = guard
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. A body that turns out too long raises BodyTooLarge inside the route that reads it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # As the client encoded it, so that an id may hold a slash (as `%2F`); routes decode their parts of it.
        scope["path"] = scope["raw_path"].decode("ascii")
        send = with_headers(send)
        try:
            self._admit(scope)
        except PolyseekError as error:
            await problem_response(error, scope["path"])(scope, receive, send)
            return
        await self._pass(scope, self._limited(receive), send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        # Routes know GET; the server leaves out the body, since its own scope says HEAD.
        asked = {**scope, "method": "GET"}
        try:
            await self.app(asked, receive, send)
        finally:  # by its route the request is counted
            scope.update({**asked, "method": "HEAD"})

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        holder = self.guard.admit(scope["method"], scope["path"], headers)
        if holder is not None:
            logs.note(key=holder.id)
        announced = headers.get("content-length", "0")
        if not (announced.isascii() and announced.isdigit() and len(announced) < 19):
            raise InvalidRequest(f"Content-Length can't be {announced!r:.40}", hint="send the number of bytes, or none")
        self._check(int(announced))

    def _limited(self, receive: Receive) -> Receive:
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            self._check(received)
            return message

        return limited

    def _check(self, size: int) -> None:
        if size > self.limit:
            raise BodyTooLarge(
                f"the body has {size} bytes or more, the limit is {self.limit}",
                hint="send fewer documents at a time, or raise max_body_bytes",
            )


def with_headers(send: Send) -> Send:
    """The same, with `HEADERS` where an answer has none of its own by these names."""

    async def completed(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = message.get("headers", ())
            names = {name.lower() for name, _ in given}
            message["headers"] = [*given, *(each for each in HEADERS.items() if each[0] not in names)]
        await send(message)

    return completed
