"""`polyseek models`: the encoders that are usable here."""

from dataclasses import asdict
from typing import Annotated

import typer

from retriever.commands.options import Json, examples

app = typer.Typer(add_completion=False)


@app.command(epilog=examples("polyseek models", "polyseek models multilingual", "polyseek models ./my-encoder --json"))
def models(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A built-in encoder, a folder or a hub id.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show the encoders that are usable here."""
    from retriever import console
    from retriever.models import catalog, describe

    rows = [asdict(model) for model in ([describe(name)] if name is not None else catalog())]
    for place, row in enumerate(rows):
        if as_json:
            console.print_json_line(row)
        else:
            console.output().print("\n" if place else "", end="")
            console.show_facts(row)
