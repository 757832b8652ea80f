"""`polyseek index`: build collections and look after them."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from retriever.commands import care
from retriever.commands.common import opened, show
from retriever.commands.options import DEFAULT_ROOT, Filters, Json, Memory, Name, RootDir, examples
from retriever.errors import CorruptCollection, PolyseekError

if TYPE_CHECKING:
    from retriever.build import BuildOptions
    from retriever.root import Root

app = typer.Typer(add_completion=False, help="Build collections and look after them.")
app.add_typer(care.app)

KIND = (
    "Kind of the dense index: auto (by the number of vectors), flat (exact), rabitq, ivf, hnsw, "
    "or an index-factory string of FAISS such as IVF4096,SQ8."
)
LISTED = ("name", "documents", "units", "encoder", "kind", "generation", "bytes")


@app.command(
    epilog=examples(
        "polyseek index build notes notes.jsonl",
        "polyseek index build code src --encoder english --prune",
        "polyseek index build photos photos --captions photos/captions.jsonl --rejects rejects.jsonl",
    )
)
def build(
    name: Name,
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE", help="Files or folders.")],
    *,
    root: RootDir = DEFAULT_ROOT,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="Layout of the sources, where it can't be told by looking."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            envvar="POLYSEEK_ENCODER",
            metavar="MODEL",
            help="multilingual, english, a folder, a hub id, or none where vectors are ready-made. "
            "By default the collection's own, multilingual for a new one.",
        ),
    ] = None,
    kind: Annotated[str | None, typer.Option(envvar="POLYSEEK_KIND", metavar="KIND", help=KIND)] = None,
    passages: Annotated[
        Literal["split", "none"] | None,
        typer.Option(envvar="POLYSEEK_PASSAGES", help="split long texts, or none: one unit for each document."),
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="TAG", help="Language of documents that name none (BCP 47); else identified.")
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(envvar="POLYSEEK_RECALL", metavar="R", help="Recall at 10 that an approximate index is tuned to."),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure recall on these queries, and keep them: one a line, JSON Lines with `text`, or a .npy.",
        ),
    ] = None,
    memory: Memory = None,
    captions: Annotated[Path | None, typer.Option(metavar="FILE", help="Captions of a folder of pictures.")] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Remove documents that the sources no longer hold.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first record that can't be used.")] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what couldn't be used there: JSONL of file, line, id, reason."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a collection or bring it up to date.

    What is new or has changed is encoded; what is unchanged is not, so that a build that was interrupted goes on.
    """
    from retriever import console
    from retriever.build import BuildOptions
    from retriever.build import build as build_collection
    from retriever.root import Root

    options = BuildOptions(
        format=format_, encoder=encoder, kind=kind, passages=passages, language=language, recall=recall, prune=prune,
        strict=strict, rejects=rejects, captions=captions, queries=queries,
    )  # fmt: skip
    with console.building(name, lambda: _records(sources, options)) as progress:
        summary = build_collection(Root(root, memory=memory), name, sources, options, progress)
    if as_json:
        console.print_json_line(asdict(summary))
    else:
        console.show_summary(summary, rejects)


def _records(sources: Sequence[Path], options: "BuildOptions") -> int:
    """How many records the sources hold, good and bad: what a build's progress is measured against."""
    from retriever.readers import read

    return sum(1 for source in sources for _ in read(source, format=options.format, captions=options.captions))


@app.command(
    epilog=examples("polyseek index delete notes --id 1 --id 2", 'polyseek index delete notes --filter "year<2020"')
)
def delete(
    name: Name,
    *,
    ids: Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="A document; repeatable.")] = None,
    filters: Filters = None,
    root: RootDir = DEFAULT_ROOT,
    as_json: Json = False,
) -> None:
    """Delete documents by their ids or by a filter."""
    from retriever.filters import parse_filter_expressions

    if bool(ids) == bool(filters):
        raise typer.BadParameter("give --id or --filter, and not both")
    with opened(root, name) as collection:
        result = collection.delete(ids=ids or None, filter=parse_filter_expressions(filters or []))
    show(asdict(result), as_json=as_json)


@app.command("list", epilog=examples("polyseek index list", "polyseek index list --json | jq -r .name"))
def list_(*, root: RootDir = DEFAULT_ROOT, as_json: Json = False) -> None:
    """List the collections and aliases."""
    from retriever import console
    from retriever.root import Root

    collections = Root(root)
    rows = []
    problems = []
    for name in collections.names():
        try:
            rows.append(_row(collections, name))
        except PolyseekError as error:
            problems.append(f"{name}: {error}")
    if as_json:
        for row in rows:
            console.print_json_line(row)
    elif rows:
        console.show_table(rows)
    elif not problems:
        console.talk().print(f"No collections in {root}.")
    if problems:
        raise CorruptCollection(f"{len(problems)} can't be opened: {'; '.join(problems)}", hint="build them again")


def _row(collections: "Root", name: str) -> dict[str, Any]:
    with collections.open(name) as collection:
        facts = asdict(collection.info())
    aliases = [alias for alias, target in collections.aliases().items() if target == name]
    return {**{column: facts[column] for column in LISTED}, "aliases": aliases}


@app.command(epilog=examples("polyseek index info notes", "polyseek index info notes --json | jq .languages"))
def info(name: Name, *, root: RootDir = DEFAULT_ROOT, as_json: Json = False) -> None:
    """Show what there is to know about a collection."""
    with opened(root, name) as collection:
        show(asdict(collection.info()), as_json=as_json)


@app.command(epilog=examples("polyseek index verify notes"))
def verify(name: Name, *, root: RootDir = DEFAULT_ROOT, as_json: Json = False) -> None:
    """Check a collection against itself: its file, every vector, the derived indices."""
    with opened(root, name) as collection:
        report = collection.verify()
    show({"ok": report.ok, **report.checked, "problems": report.problems}, as_json=as_json)
    if not report.ok:
        raise CorruptCollection(
            f"{name} has {len(report.problems)} problems, the first: {report.problems[0]}",
            hint=f"if only derived indices are named: polyseek index optimize {name}; else build it again",
        )


@app.command(epilog=examples("polyseek index optimize notes", "polyseek index optimize notes --kind ivf --recall 0.98"))
def optimize(
    name: Name,
    *,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help=f"{KIND} By default what it is.")] = None,
    recall: Annotated[
        float | None, typer.Option(metavar="R", help="Recall at 10 that an approximate index is tuned to.")
    ] = None,
    memory: Memory = None,
    root: RootDir = DEFAULT_ROOT,
) -> None:
    """Rebuild the derived indices and return free space; with another kind of dense index, if asked for."""
    from retriever import console
    from retriever.root import Root

    with console.logged(), Root(root, memory=memory).open(name, background=False) as collection:
        collection.optimize(kind=kind, recall=recall)


@app.command(epilog=examples("polyseek index drop notes"))
def drop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A collection.")],
    *,
    root: RootDir = DEFAULT_ROOT,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Remove a collection and everything in it."""
    import sys

    from retriever.root import Root

    if not yes and sys.stdin.isatty():
        typer.confirm(f"Remove {name} and everything in it?", abort=True, err=True)
    Root(root).drop(name)


@app.command(epilog=examples("polyseek index alias live notes-2024", "polyseek index alias live --remove"))
def alias(
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="The name that searches use.")],
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The collection that it stands for from now on.")
    ] = None,
    *,
    root: RootDir = DEFAULT_ROOT,
    remove: Annotated[bool, typer.Option("--remove", help="Forget the alias.")] = False,
) -> None:
    """Let an alias stand for a collection; searches that use it switch at once."""
    from retriever.root import Root

    if remove == (name is not None):
        raise typer.BadParameter("give NAME or --remove, and not both")
    if name is None:
        Root(root).remove_alias(alias)
    else:
        Root(root).set_alias(alias, name)
