"""What a person reads in a terminal: hits, tables, progress. Results go to standard output, talk to standard error."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import orjson
import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from retriever.errors import PolyseekError

if TYPE_CHECKING:
    from retriever.build import BuildSummary
    from retriever.documents import Document
    from retriever.migrate import MigrateSummary
    from retriever.requests import Hit, SearchResult

MARK = "bold yellow"
INDENT = " " * 4
# About three lines of a terminal of 100 columns: enough to judge a hit by, few enough for ten hits on a screen.
EXCERPT = 280
CODE_LINES = 6
# An excerpt is shortened by less than this to begin and end between words, in scripts that have spaces.
WORD = 24
# A document may hold anything; an escape sequence of its own would drive the reader's terminal.
CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}

Span = tuple[int, int]


def output() -> Console:
    """The console of results."""
    return Console(highlight=False, markup=False)


def talk() -> Console:
    """The console of progress, warnings and notes."""
    return Console(stderr=True, highlight=False, markup=False)


def print_json_line(value: object) -> None:
    """Print one JSON value on a line of its own, as UTF-8 whatever the locale."""
    stream = typer.get_binary_stream("stdout")
    stream.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY))
    stream.flush()


def show_facts(facts: Mapping[str, object]) -> None:
    """Print named facts, one a line."""
    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        grid.add_row(Text(name, "dim"), Text(_shown(name, value)))
    output().print(grid)


def show_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows that have the same columns."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int) else "left")
    for row in rows:
        table.add_row(*(Text(_shown(name, value)) for name, value in row.items()))
    output().print(table)


def _shown(name: str, value: object) -> str:
    """A fact as a person reads it."""
    match value:
        case None:
            shown = "-"
        case tuple() | list() | dict() if not value:
            shown = "-"
        case bool():
            shown = "yes" if value else "no"
        case int():
            shown = decimal(value) if name == "bytes" else f"{value:,}"
        case Mapping():
            shown = ", ".join(f"{key} {_shown(name, member)}" for key, member in value.items())
        case list() | tuple():
            shown = ", ".join(map(str, value))
        case _:
            shown = str(value)
    return _line(shown)


@contextmanager
def logged() -> Iterator[None]:
    """Say on standard error what the library notes of its work."""
    handler = _Talking()
    logger = logging.getLogger("retriever")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Talking(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        talk().print(Text(record.getMessage(), "dim"))


@contextmanager
def building(name: str, count: Callable[[], int]) -> Iterator[Callable[["BuildSummary"], None]]:
    """A progress bar for a build, with the time left once `count` has found how many records the sources hold.

    The records are counted beside the build, in a terminal only: nobody waits for the count, or reads a bar in a log.
    """
    console = talk()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("documents, {task.fields[encoded]:,} new or changed"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with logged(), Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=None, encoded=0)

        def find_total() -> None:
            # What makes the sources unreadable, the build says.
            with suppress(PolyseekError):
                progress.update(task, total=count())

        if console.is_terminal:
            Thread(target=find_total, daemon=True).start()
        yield lambda summary: progress.update(task, completed=summary.read, encoded=summary.added + summary.updated)


def show_summary(summary: "BuildSummary", rejects: Path | None) -> None:
    """Print what a build did, and on standard error what its user should know."""
    counts = {
        "added": summary.added, "updated": summary.updated, "unchanged": summary.unchanged, "removed": summary.removed,
        "rejected": summary.rejected,
    }  # fmt: skip
    done = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing to do"
    output().print(f"{summary.collection}: {summary.documents:,} documents ({done}) in {summary.seconds:.1f} s")
    if summary.kind != "flat":
        output().print(f"dense index: {summary.kind}, recall at 10 {summary.recall:.3f} ({summary.recall_of})")
    notes = (
        (summary.rejected, f"records left out; {f'see {rejects}' if rejects else 'their reasons: --rejects FILE'}"),
        (summary.repeated, "ids given more than once; the last one counted"),
        (summary.truncated, "texts cut at the encoder's maximum"),
        (summary.pictures_unsearched, "pictures that the encoder can't see; they are found by their captions only"),
    )
    _show_notes(notes)


def _show_notes(notes: Iterable[tuple[int, str]]) -> None:
    for count, what in notes:
        if count:
            talk().print(f"{count:,} {what}", style="yellow")


@contextmanager
def migrating(name: str) -> Iterator[Callable[["MigrateSummary"], None]]:
    """A progress bar for a migration: what an earlier run encoded isn't counted again."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("documents"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=talk(), transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda summary: progress.update(task, completed=summary.copied, total=summary.total)


def show_migration(summary: "MigrateSummary") -> None:
    """Print what a migration did, and on standard error what its user should know."""
    output().print(
        f"{summary.collection}: {summary.documents:,} documents, {summary.copied:,} encoded with {summary.encoder} "
        f"(was {summary.old_encoder or 'without encoder'}) in {summary.seconds:.1f} s"
    )
    if summary.comparison is not None:
        compared = asdict(summary.comparison)
        old, new = compared.pop("old"), compared.pop("new")
        show_facts(compared)
        show_table([{"side": "old", **old}, {"side": "new", **new}])
    notes = (
        (summary.truncated, "texts cut at the encoder's maximum"),
        (summary.pictures_unsearched, "pictures that the encoder can't see; they are found by their captions only"),
        (summary.pictures_from_thumbnails, "pictures encoded from their thumbnails: only their paths are stored"),
        (summary.queries_dropped, "stored queries dropped: they were vectors of the old encoder"),
    )
    _show_notes(notes)


def show_query(query: str) -> None:
    """Head the hits of one query of several."""
    output().rule(Text(_line(query)), align="left", style="dim")


def safe(text: str) -> str:
    """The text without control characters, at the same offsets."""
    return text.translate(CONTROLS)


def show_hits(result: "SearchResult") -> None:
    """Print the hits of one search, and on standard error what a reader should know about them."""
    if result.truncated:
        talk().print("The query was cut at the encoder's maximum.", style="yellow")
    if not result.hits:
        talk().print("No hits.", style="yellow")
    console = output()
    for hit in result.hits:
        console.print(render_hit(hit, console))


def render_hit(hit: "Hit", console: Console) -> Text:
    """One hit: what it is, then the part that matched with its marks; code by `path:line`."""
    body = _code(hit) if hit.document.modality == "code" else _prose(hit)
    shown = _headline(hit)
    for line in body.wrap(console, console.width - len(INDENT)):
        line.rstrip()
        shown.append("\n").append(INDENT if line else "").append_text(line)
    return shown.append("\n")


def _headline(hit: "Hit") -> Text:
    line = Text.assemble((f"{hit.rank:>2}", "dim"), "  ", *_name(hit.document))
    if hit.document.modality != "code" and hit.unit.language != "und":
        line.append(f"  {hit.unit.language}", "cyan")
    return line.append(f"  {hit.score:.4f}", "green")


def _name(document: "Document") -> Iterator[tuple[str, str]]:
    """What the document is called: its place in the code, else its title and its id."""
    path, line = document.metadata.get("path"), document.metadata.get("start_line")
    if document.modality == "code" and path is not None:
        yield safe(f"{path}:{line}"), "bold"
        yield f"  {_line(document.title)}", ""
        return
    if document.title:
        yield f"{_line(document.title)}  ", "bold"
    yield _line(document.id), "dim" if document.title else "bold"


def _line(text: str) -> str:
    return " ".join(safe(text).split())


def _prose(hit: "Hit") -> Text:
    text, start, end = _matched(hit)
    first, last = excerpt(text, start, end, hit.highlights)
    # Line breaks and indents are layout of the source; a terminal has its own.
    pieces = ((re.sub(r"\s+", " ", piece), style) for piece, style in _pieces(safe(text), first, last, hit.highlights))
    return Text.assemble("… " if first > start else "", *pieces, "…" if last < end else "")


def _code(hit: "Hit") -> Text:
    text, start, _ = _matched(hit)
    lines = safe(text)[start:].split("\n")[:CODE_LINES]
    shown = "\n".join(lines)
    lexer = Syntax.guess_lexer(str(hit.document.metadata.get("path", "")), shown)
    code = Syntax(shown, lexer, theme="ansi_dark", background_color="default").highlight(shown)
    code.rstrip()
    for mark_start, mark_end in hit.highlights:
        if start <= mark_start < start + len(shown):
            code.stylize(MARK, mark_start - start, mark_end - start)
    return code


def _matched(hit: "Hit") -> tuple[str, int, int]:
    """The text that the hit's offsets count in, and the span of it that matched."""
    unit = hit.unit
    return (hit.document.text if unit.caption is None else unit.caption), unit.start, unit.end


def excerpt(text: str, start: int, end: int, marks: Sequence[Span]) -> Span:
    """The part of text[start:end] to show: about EXCERPT code points with as many marks as can be, at word borders."""
    if end - start <= EXCERPT:
        return start, end
    anchors = [mark for mark, _ in marks if start <= mark < end] or [start]
    best = max(anchors, key=lambda anchor: sum(anchor <= mark < anchor + EXCERPT for mark in anchors))
    first = max(start, min(best - EXCERPT // 8, end - EXCERPT))
    last = min(end, first + EXCERPT)
    if first > start and (space := re.compile(r"\s+").search(text, first, min(first + WORD, best))):
        first = space.end()
    if last < end and (word := re.compile(r"\S*\Z").search(text, last - WORD, last)) and word.start() > last - WORD:
        last = word.start()
    return first, last


def _pieces(text: str, first: int, last: int, marks: Iterable[Span]) -> Iterator[tuple[str, str]]:
    """The text from first to last in pieces, each with its style."""
    at = first
    for start, end in marks:
        if first <= start < last:
            yield text[at:start], ""
            yield text[start : min(end, last)], MARK
            at = min(end, last)
    yield text[at:last], ""
