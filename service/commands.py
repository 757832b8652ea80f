"""The commands `polyseek serve` and `polyseek keys`."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from retriever.commands.common import show
from retriever.commands.options import DEFAULT_ROOT, Json, RootDir, examples
from service.keys import SCOPES, Key, Scope, new_key, read_keys, revoke_key
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


def _scope(text: str) -> Scope:
    for scope in SCOPES:
        if text == scope:
            return scope
    raise typer.BadParameter(f"a scope is one of {', '.join(SCOPES)}, not {text!r}")


keys = typer.Typer(add_completion=False, help="Make, list and revoke the keys of the service.")


@keys.command(epilog=examples("polyseek keys new --name shop --scope read"))
def new(
    *,
    name: Annotated[str, typer.Option(metavar="TEXT", help="Whose key it is, for you to remember.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            parser=_scope,
            help="read: search and look; write: change. Repeatable; both where none is given.",
        ),
    ] = None,
    root: RootDir = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Make a key and print it; it can't be shown again."""
    key, text = new_key(root, name, cast(list[Scope], scope) or SCOPES)
    if as_json:
        show({**_facts(key), "key": text}, as_json=True)
        return
    typer.echo(text)
    typer.echo(f"Key {key.id} with {' and '.join(sorted(key.scopes))}; it isn't shown again.", err=True)


@keys.command("list", epilog=examples("polyseek keys list", "polyseek keys list --json"))
def list_(*, root: RootDir = DEFAULT_ROOT, as_json: Json = False) -> None:
    """Show the keys without their secrets."""
    from retriever import console

    rows = [_facts(key) for key in read_keys(root).values()]
    if as_json:
        for row in rows:
            console.print_json_line(row)
    elif rows:
        console.show_table(rows)
    else:
        console.talk().print(f"No keys in {root}.")


@keys.command(epilog=examples("polyseek keys revoke 1f0c9d3a"))
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="Its id, as `polyseek keys list` shows it.")],
    *,
    root: RootDir = DEFAULT_ROOT,
) -> None:
    """Make a key void, at once and for good."""
    key = revoke_key(root, identifier)
    typer.echo(f"Key {key.id}{f' of {key.name}' if key.name else ''} is void.", err=True)


def _facts(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "created": key.created.isoformat(),
    }
