"""Options that several commands share, each spelled once.

An option with an environment variable `POLYSEEK_NAME` is a setting: `name` in polyseek.toml sets it too.
"""

from pathlib import Path
from typing import Annotated

import typer

RootDir = Annotated[
    Path, typer.Option("--root", envvar="POLYSEEK_ROOT", metavar="DIR", help="The folder that holds the collections.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A collection or an alias.")]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="FIELD=VALUE",
        help="Only documents whose FIELD has VALUE; also != >= <= > <. Repeated ones must all hold.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]

DEFAULT_ROOT = Path("polyseek-data")


def examples(*lines: str) -> str:
    """The foot of a command's `--help`."""
    return "\n".join(("[bold]For example[/bold]", *lines))
