"""The process that serves: where it listens, how it starts and how it ends.

SIGTERM: `/readyz` is 503 at once, and everything is answered as before until whoever sends requests has seen that; then
no connection is accepted any more, running requests end, and so does the process. SIGINT: the same without the wait. A
second signal ends it there and then, which loses nothing that was answered.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from retriever.errors import PolyseekError
from service import logs
from service.app import create_app
from service.settings import Settings

# How long threads that still work may hold up the end, once their requests were given up.
LAST_SECONDS = 5.0

log = logging.getLogger("polyseek.service")


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM. Raises PolyseekError where the address can't be listened on, or needs a key."""
    logs.configure(settings.log_level)
    app = create_app(settings)
    listener = listen(settings)
    config = uvicorn.Config(
        app,
        # Its errors go the way of all others; what it says of its start is said better below.
        log_config=None,
        log_level="warning",
        # It ends at 64 KiB of headers. httptools, which uvicorn prefers wherever it is installed, has no end.
        http="h11",
        access_log=False,
        # Unset, a connection that stays open keeps a stopped service alive for ever.
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"Polyseek serves {settings.root} at http://{shown}:{port}", file=sys.stderr, flush=True)  # noqa: T201
    Server(config, drain=app.state.readiness.drain, drain_seconds=settings.drain_seconds).run(sockets=[listener])


class Server(uvicorn.Server):
    """Ends as the module says. drain: called when it begins to, by a signal's handler."""

    def __init__(self, config: uvicorn.Config, *, drain: Callable[[], None], drain_seconds: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._drain_seconds = drain_seconds
        self._ends_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end. uvicorn's own would close the sockets at once, and raise the signal again at the end."""
        if self._ends_at is not None:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self._drain()
        # Clients that keep connections open move on with their next request, not when it is reset.
        self.config.encoded_headers = [*self.config.encoded_headers, (b"connection", b"close")]
        self._ends_at = time.monotonic() + (self._drain_seconds if sig == signal.SIGTERM else 0)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end."""
        if self._ends_at is not None and time.monotonic() >= self._ends_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, let running requests end, close the application."""
        log.info("no more connections are accepted; running requests may end")
        seconds = (self.config.timeout_graceful_shutdown or 0) + LAST_SECONDS
        last = threading.Timer(seconds, _give_up)
        last.daemon = True
        last.start()
        await super().shutdown(sockets)
        log.info("ended")


def _give_up() -> None:
    # A thread can't be stopped from outside, and Python waits for each.
    log.error("what runs is given up; what was answered is stored")
    os._exit(1)


def listen(settings: Settings) -> socket.socket:
    """A socket that listens at the address of the settings. Raises PolyseekError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise PolyseekError(
            f"{settings.host}:{settings.port} can't be listened on: {error.strerror or error}",
            hint="another service may use the port: choose one with --port, or 0 for any free one",
        ) from None
    # Connections inherit it. asyncio sets it only on sockets whose protocol is named; without it an answer waits 40 ms
    # for the client's delayed acknowledgement: /livez on a kept connection took 44 ms, with it 0.7.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
