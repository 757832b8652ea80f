"""`polyseek search`: one search, or one for each line of standard input."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from retriever.commands.options import DEFAULT_ROOT, Filters, Json, Name, RootDir, examples
from retriever.errors import InvalidRequest, PolyseekError

if TYPE_CHECKING:
    from retriever.collection import Collection
    from retriever.requests import SearchResult

# Queries encoded together: enough to fill an encoder's batches, few enough for answers to come while lines still do.
TOGETHER = 256
STANDARD_INPUT = "-"


app = typer.Typer(add_completion=False)


@app.command(
    epilog=examples(
        'polyseek search docs "Wie fange ich mehrere Ausnahmen ab?"',
        'polyseek search code "parse a date" --filter language=en -k 3 --json | jq .hits',
        "polyseek search docs - < queries.txt",
    )
)
def search(
    name: Name,
    text: Annotated[str | None, typer.Argument(help="What to look for; - reads one query a line.")] = None,
    *,
    root: RootDir = DEFAULT_ROOT,
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="Search by a picture.")] = None,
    like: Annotated[list[str] | None, typer.Option(metavar="ID", help="More like this document; repeatable.")] = None,
    k: Annotated[int, typer.Option("-k", envvar="POLYSEEK_K", help="How many hits.")] = 10,
    mode: Annotated[
        Literal["hybrid", "dense", "lexical"] | None,
        typer.Option(envvar="POLYSEEK_MODE", help="By default hybrid where there is a text, else dense."),
    ] = None,
    filters: Filters = None,
    language: Annotated[
        str | None, typer.Option(metavar="TAG", help="The language of the text, where it is known (BCP 47).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Search a collection."""
    from retriever.filters import parse_filter_expressions
    from retriever.requests import SearchRequest
    from retriever.root import Root

    members: dict[str, Any] = {
        "image": _read(image), "like": like or None, "k": k, "mode": mode,
        "filter": parse_filter_expressions(filters or []), "language": language,
    }  # fmt: skip
    with Root(root).open(name) as collection:
        if text == STANDARD_INPUT:
            _search_lines(collection, members, as_json=as_json)
        else:
            request = SearchRequest.of(SearchRequest(), {"text": text, **members})
            _show(collection.search(request), as_json=as_json)


def _read(image: Path | None) -> bytes | None:
    if image is None:
        return None
    try:
        return image.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{image} can't be read: {error.strerror}", hint="check the path of --image") from None


def _search_lines(collection: "Collection", members: dict[str, Any], *, as_json: bool) -> None:
    """Answer every line of standard input in order; one that can't be answered doesn't stop the others."""
    lines = _lines()
    asked = failed = 0
    while batch := list(islice(lines, TOGETHER)):
        for (number, text), answer in zip(batch, _answers(collection, batch, members), strict=True):
            asked += 1
            if isinstance(answer, PolyseekError):
                failed += 1
                _show_failure(number, answer, as_json=as_json)
            else:
                _show(answer, as_json=as_json, query=text)
    if failed:
        raise InvalidRequest(f"{failed} of {asked} queries could not be answered", hint="each is named above")


def _lines() -> Iterator[tuple[int, str]]:
    """The lines of standard input that aren't blank, with their numbers."""
    for number, line in enumerate(typer.get_binary_stream("stdin"), start=1):
        if line.strip():
            try:
                yield number, line.decode().strip()
            except UnicodeDecodeError as error:
                raise InvalidRequest(f"line {number} of standard input is not UTF-8: {error.reason}") from None


def _answers(
    collection: "Collection", batch: Sequence[tuple[int, str]], members: dict[str, Any]
) -> "Sequence[SearchResult | PolyseekError]":
    from retriever.requests import SearchRequest

    return collection.search_many([SearchRequest.of(text, members) for _, text in batch])


def _show(result: "SearchResult", *, as_json: bool, query: str | None = None) -> None:
    from retriever import console

    if as_json:
        console.print_json_line(result.to_dict())
        return
    if query is not None:
        console.show_query(query)
    console.show_hits(result)


def _show_failure(number: int, error: PolyseekError, *, as_json: bool) -> None:
    """A failed query keeps its place: one line of output for each line of input."""
    typer.echo(f"error: line {number}: {error}", err=True)
    if as_json:
        from retriever import console

        console.print_json_line(
            {"code": error.code, "title": error.title, "status": error.status, "detail": str(error)}
        )
