"""The file `polyseek.toml`: standing values for settings that a flag or an environment variable doesn't give.

It is flat: `root = "/srv/polyseek"` is `--root` and POLYSEEK_ROOT. What is a setting is said once, where it is used: by
an option that names an environment variable, or by a field of a class under the entry points `polyseek.settings`.
"""

import difflib
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

from retriever.errors import InvalidSettings

FILE = Path("polyseek.toml")
PREFIX = "POLYSEEK_"

# Classes of pydantic-settings with more settings than their command has flags.
ENTRY_POINTS = "polyseek.settings"

Command = TyperCommand | TyperGroup


def read(path: Path = FILE) -> dict[str, Any]:
    """The values of the file; none where there is no file. Raises InvalidSettings where it isn't TOML."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSettings(f"{path} is not TOML: {error}", hint=f"mend {path}, or remove it") from None


def settings(command: Command) -> dict[str, str]:
    """The settings of one command without its sub-commands: name of the setting -> name of the parameter."""
    named: dict[str, str] = {}
    for parameter in command.params:
        variable = getattr(parameter, "envvar", None)
        if isinstance(variable, str) and variable.startswith(PREFIX) and parameter.name:
            named[variable.removeprefix(PREFIX).lower()] = parameter.name
    return named


def walk(command: Command) -> Iterator[Command]:
    """The command and everything below it."""
    yield command
    if isinstance(command, TyperGroup):
        for child in command.commands.values():
            if isinstance(child, TyperCommand | TyperGroup):
                yield from walk(child)


def defaults(command: Command, values: dict[str, Any]) -> dict[str, Any]:
    """What the file's values are for this command, in the nested form of a context's `default_map`."""
    found = {parameter: values[name] for name, parameter in settings(command).items() if name in values}
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            if isinstance(child, TyperCommand | TyperGroup):
                found[name] = defaults(child, values)
    return found


def names(commands: Iterable[Command]) -> set[str]:
    """Every setting of these commands and of what is below them."""
    return {name for command in commands for part in walk(command) for name in settings(part)}


def declared() -> set[str]:
    """Every setting that a class of the entry-point group declares."""
    return {name for entry_point in entry_points(group=ENTRY_POINTS) for name in entry_point.load().model_fields}


def refuse_unknown(values: dict[str, Any], known: set[str], path: Path = FILE) -> None:
    """Raise InvalidSettings for the first name that no command knows, with the nearest that one does."""
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known settings: {', '.join(sorted(known))}"
            raise InvalidSettings(f"{path}: unknown setting {name}", hint=hint)
