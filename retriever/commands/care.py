"""`polyseek index`: collections as a whole, to other files, places and encoders."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retriever.commands.common import opened, show
from retriever.commands.options import DEFAULT_ROOT, Json, Name, RootDir, examples
from retriever.errors import InvalidRequest

if TYPE_CHECKING:
    from retriever.snapshots import Manifest

app = typer.Typer(add_completion=False)


@app.command(epilog=examples("polyseek index snapshot notes notes.snapshot"))
def snapshot(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; one that is there is replaced.")],
    *,
    root: RootDir = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Write a collection to one file, while writers go on."""
    with opened(root, name) as collection:
        manifest = collection.snapshot(file)
    show(_facts(manifest, file), as_json=as_json)


@app.command(epilog=examples("polyseek index restore notes.snapshot notes-again --root /srv/polyseek"))
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `polyseek index snapshot` wrote.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The collection that it becomes.")],
    *,
    root: RootDir = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Make a collection from a snapshot, under any root and name."""
    from retriever.root import Root

    manifest = Root(root).restore(file, name)
    show({"collection": name, **_facts(manifest, file)}, as_json=as_json)


def _facts(manifest: "Manifest", file: Path) -> dict[str, Any]:
    return {
        "snapshot_of": manifest.name, "generation": manifest.generation, "documents": manifest.documents,
        "bytes": file.stat().st_size, "polyseek": manifest.polyseek,
    }  # fmt: skip


@app.command(epilog=examples("polyseek index export notes notes.jsonl.gz", "polyseek index export notes out --vectors"))
def export(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines, compressed where it ends in .gz or .zst.")],
    *,
    vectors: Annotated[
        bool,
        typer.Option(
            "--vectors", help="Make FILE a folder: documents.jsonl, vectors.npy, units.jsonl with a line a row."
        ),
    ] = False,
    root: RootDir = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Write the documents as JSON Lines that a build reads again."""
    from retriever import console

    with opened(root, name) as collection:
        summary = collection.export(file, vectors=vectors)
    show(asdict(summary), as_json=as_json)
    if summary.pictures_missing:
        console.talk().print(
            f"{summary.pictures_missing:,} documents name a picture that isn't there from {file}: write it into the "
            "folder that the documents were built from, for a build to find them",
            style="yellow",
        )


@app.command(
    epilog=examples(
        "polyseek index migrate notes --encoder english",
        "polyseek index migrate notes --encoder ./my-encoder --queries queries.txt",
    )
)
def migrate(
    name: Name,
    *,
    encoder: Annotated[
        str, typer.Option("--encoder", metavar="MODEL", help="multilingual, english, a folder or a hub id.")
    ],
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Compare the answers before the switch: one query a line, or JSON Lines with `text`."
        ),
    ] = None,
    root: RootDir = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Encode a collection anew with another encoder, then switch to it; run again, it goes on where it was stopped.

    Searches and writes go on meanwhile. Documents that brought their vectors are encoded by their texts.
    """
    from retriever import console
    from retriever.migrate import migrate as migrate_collection
    from retriever.root import Root

    with console.migrating(name) as progress:
        summary = migrate_collection(Root(root), name, encoder, queries=_texts(queries), progress=progress)
    facts = asdict(summary)
    if as_json:
        console.print_json_line(facts)
    else:
        console.show_migration(summary)


def _texts(path: Path | None) -> list[str] | None:
    from retriever.readers.queries import read_queries

    if path is None:
        return None
    queries = read_queries(path)
    if not isinstance(queries, list):
        raise InvalidRequest(f"{path} holds vectors, which only one of two encoders can answer", hint="give texts")
    return queries
