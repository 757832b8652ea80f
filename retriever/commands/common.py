"""What several commands do alike."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retriever.collection import Collection


def opened(root: Path, name: str) -> "Collection":
    """The collection or alias, to be used in a `with`."""
    from retriever.root import Root

    return Root(root).open(name)


def show(facts: dict[str, Any], *, as_json: bool) -> None:
    """Print facts as JSON or as lines that a person reads."""
    from retriever import console

    if as_json:
        console.print_json_line(facts)
    else:
        console.show_facts(facts)
