"""The process that serves: where it listens, how it starts and how it ends."""

import socket
import sys

import uvicorn

from retriever.errors import PolyseekError
from service.app import create_app
from service.settings import Settings


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM. Raises PolyseekError where the address can't be listened on."""
    listener = listen(settings)
    config = uvicorn.Config(
        create_app(settings),
        log_level="warning",
        access_log=False,
        # Unset, a connection that stays open keeps a stopped service alive for ever.
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"Polyseek serves {settings.root} at http://{shown}:{port}", file=sys.stderr, flush=True)  # noqa: T201
    uvicorn.Server(config).run(sockets=[listener])


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
