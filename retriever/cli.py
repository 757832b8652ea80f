"""The root of the command line: commands found lazily, settings from polyseek.toml, every error printed in one form.

A command is an entry point of the group `polyseek.commands`: a Typer app or a plain function with Typer's annotations.
It is imported when it runs, so that `polyseek search` never pays for what `serve` needs.
"""

import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from retriever.commands import configuration
from retriever.errors import PolyseekError

ENTRY_POINTS = "polyseek.commands"
# What `polyseek --help` says of a command without importing it, in the order of the help; a test holds these against
# the commands' own words.
SUMMARIES = {
    "index": "Build collections and look after them.",
    "search": "Search a collection.",
    "serve": "Serve search over REST and a page.",
    "keys": "Make, list and revoke the keys of the service.",
    "models": "Show the encoders that are usable here.",
    "eval": "Evaluate models, collections, BM25 and runs.",
}


@dataclass
class Session:
    """What one run of the command line remembers: whether an error shows its traceback."""

    debug: bool = False


class LazyCommand(TyperCommand):
    """A command known by name and summary until it runs."""

    def __init__(self, entry_point: EntryPoint) -> None:
        super().__init__(entry_point.name, help=SUMMARIES.get(entry_point.name))
        self.entry_point = entry_point

    @cached_property
    def loaded(self) -> configuration.Command:
        """The command itself, imported, with what every command takes."""
        target = self.entry_point.load()
        command = typer.main.get_command(target if isinstance(target, typer.Typer) else _app(target))
        command.name = self.name
        for part in configuration.walk(cast(configuration.Command, command)):
            part.params.extend(_common.params)
        return cast(configuration.Command, command)

    def make_context(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - the signature is Typer's own
        """The context of the loaded command, which Typer then invokes."""
        return self.loaded.make_context(*args, **extra)


class Commands(TyperGroup):
    """The root group: every command of the entry-point group, none of them imported."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - passed on to Typer
        super().__init__(**attributes)
        found = {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINTS)}
        for name in (*(name for name in SUMMARIES if name in found), *sorted(found.keys() - SUMMARIES.keys())):
            self.add_command(LazyCommand(found[name]), name)

    def lazy(self) -> dict[str, LazyCommand]:
        """The commands by name."""
        return {name: command for name, command in self.commands.items() if isinstance(command, LazyCommand)}


def _app(function: Any) -> typer.Typer:  # noqa: ANN401 - any function with Typer's annotations
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return app


def _remember_debug(context: typer.Context, value: bool) -> None:  # noqa: FBT001 - Typer's form of a callback
    if value:
        context.ensure_object(Session).debug = True


def _options(
    *,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            envvar="POLYSEEK_DEBUG",
            expose_value=False,
            callback=_remember_debug,
            help="Show the traceback of an error.",
        ),
    ] = False,
) -> None:
    """What every command takes."""


_common = typer.main.get_command(_app(_options))


def _print_version(value: bool) -> None:  # noqa: FBT001 - Typer's form of a callback
    if value:
        typer.echo(f"polyseek {version('polyseek')}")
        raise typer.Exit


app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)


@app.callback(epilog='Example: polyseek index build notes notes.jsonl, then polyseek search notes "a question"')
def polyseek(
    context: typer.Context,
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Multilingual search over documents, pictures and code.

    A setting is taken from its flag, else from its environment variable, else from ./polyseek.toml, else its default.
    """
    values = configuration.read()
    commands = cast(Commands, context.command).lazy()
    if not values or context.invoked_subcommand not in commands:
        return
    command = commands[context.invoked_subcommand].loaded
    if values.keys() - configuration.names([command]):
        every = configuration.names(each.loaded for each in commands.values()) | configuration.declared()
        configuration.refuse_unknown(values, every)
    context.default_map = {context.invoked_subcommand: configuration.defaults(command, values)}


INTERRUPTED = 130


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    session = Session()
    try:
        status = typer.main.get_command(app).main(arguments, prog_name="polyseek", standalone_mode=False, obj=session)
    except TyperException as error:
        return _refuse(error)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except PolyseekError as error:
        if session.debug:
            traceback.print_exc()
        return _fail(str(error) if error.path is None else f"{error} ({error.path})", error.hint)
    except Exception as error:
        if session.debug:
            traceback.print_exc()
        return _fail(f"{type(error).__name__}: {error}", "run it again with --debug for the traceback")
    if status == INTERRUPTED:  # Typer itself catches the interrupt of a command that has begun
        return _interrupted()
    return status or 0


def _interrupted() -> int:
    return _fail("interrupted", "what was committed stays; the same command goes on from there", INTERRUPTED)


def _refuse(error: TyperException) -> int:
    """Wrong usage: what was wrong, and where the right usage is said."""
    context = getattr(error, "ctx", None)
    return _fail(error.format_message(), f"{context.command_path if context else 'polyseek'} --help", error.exit_code)


def _fail(message: str, hint: str, status: int = 1) -> int:
    typer.echo(f"error: {_one_line(message)}", err=True)
    if hint:
        typer.echo(f"hint: {_one_line(hint)}", err=True)
    return status


def _one_line(text: str) -> str:
    return " ".join(text.split())


def main() -> None:
    """The console script `polyseek`."""
    sys.exit(run(sys.argv[1:]))
