"""Options that several commands share, each spelled once.

An option with an environment variable `POLYSEEK_NAME` is a setting: `name` in polyseek.toml sets it too.
"""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError


def _size(text: str) -> int:
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise typer.BadParameter(f"not a size: {text!r}; write for example 4GiB") from None


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
Memory = Annotated[
    int | None,
    typer.Option(
        "--memory",
        envvar="POLYSEEK_MEMORY",
        metavar="SIZE",
        parser=_size,
        help="Memory that building a dense index may take, such as 4GiB; half of what is available by default.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]

DEFAULT_ROOT = Path("polyseek-data")


def examples(*lines: str) -> str:
    """The foot of a command's `--help`."""
    return "\n".join(("[bold]For example[/bold]", *lines))
