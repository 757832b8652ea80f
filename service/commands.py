"""The command `polyseek serve`."""

import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from retriever.errors import PolyseekError
from service.settings import Settings, load


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1). POLYSEEK_HOST")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (8000), 0 for any. POLYSEEK_PORT")] = None,
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that holds the collections (polyseek-data). POLYSEEK_ROOT"),
    ] = None,
    *,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings in force as a polyseek.toml, and end.")
    ] = False,
) -> None:
    """Serve search over REST and a page.

    Example: polyseek serve --port 8080
    """
    settings = load(host=host, port=port, root=root)
    if print_config:
        typer.echo(settings.to_toml())
        return
    run(settings)


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM. Raises PolyseekError where the address can't be listened on."""
    import uvicorn

    from service.app import create_app

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
