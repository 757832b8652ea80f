"""The command `polyseek serve`."""

from pathlib import Path
from typing import Annotated

import typer

from service.settings import load


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
    from service.server import run

    settings = load(host=host, port=port, root=root)
    if print_config:
        typer.echo(settings.to_toml())
        return
    run(settings)
