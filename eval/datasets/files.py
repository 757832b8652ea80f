"""What every reader shares: lines of a dataset's files, errors that name the place, checksums; items and judgements."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from eval.tasks import Items, Judgements
from retriever.errors import InvalidData, SourceError
from retriever.languages import canonical
from retriever.readers.base import BadLine, Lines

COMPRESSED = ("", ".gz", ".zst")
_TAG = "languages are named by a tag such as en, deu or zh-Hant; code in programming languages is read as the kind code"


@dataclass(frozen=True, slots=True)
class Line:
    """file: by its name, the dataset's before it. number: from 1. text: without the end of the line."""

    file: str
    number: int
    text: str
    path: Path

    def error(self, message: str, hint: str) -> InvalidData:
        """What is wrong with it."""
        return InvalidData(f"{self.file}, line {self.number}: {message}", hint=hint, path=self.path)


@dataclass(frozen=True)
class Folder:
    """A dataset's folder. `checksums` gets the SHA-256 of every file that is read, by its path from the folder."""

    path: Path
    checksums: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises InvalidData where it is no folder."""
        if not self.path.is_dir():
            raise InvalidData(f"{self.path.name} is no folder", hint="give the folder of a dataset", path=self.path)

    @property
    def name(self) -> str:
        """The name of the dataset."""
        return self.path.resolve().name

    def has(self, name: str) -> bool:
        """Whether there is such a file, itself or compressed."""
        return any((self.path / f"{name}{ending}").is_file() for ending in COMPRESSED)

    def matching(self, pattern: str) -> list[str]:
        """The names of files, relative to the folder and without the ending of a compressed one, in order."""
        found = [path for ending in COMPRESSED for path in self.path.glob(f"{pattern}{ending}") if path.is_file()]
        return sorted({_plain(path.relative_to(self.path).as_posix()) for path in found})

    def file(self, name: str) -> Path:
        """Where a file lies, itself or compressed; its checksum is taken. Raises InvalidData where it is missing."""
        path = next((path for ending in COMPRESSED if (path := self.path / f"{name}{ending}").is_file()), None)
        if path is None:
            raise InvalidData(
                f"{self.name} has no {name}", hint=f"it takes {name}, plain or as .gz or .zst", path=self.path / name
            )
        self.add(path)
        return path

    def add(self, path: Path) -> None:
        """Take the checksum of a file. Raises InvalidData where it can't be read."""
        self.checksums[path.relative_to(self.path).as_posix()] = checksum(path)

    def lines(self, name: str) -> Iterator[Line]:
        """The lines of a file, blank ones as well. Raises InvalidData where it is missing, damaged or not UTF-8."""
        path = self.file(name)
        shown = f"{self.name}/{path.relative_to(self.path).as_posix()}"
        try:
            lines = Lines(path)
        except SourceError as error:
            raise InvalidData(f"{shown} can't be read", hint=error.hint, path=path) from None
        with lines:
            while True:
                try:
                    text = next(lines).decode("utf-8").rstrip("\r\n")
                except StopIteration:
                    return
                except (BadLine, UnicodeDecodeError) as error:
                    raise Line(shown, lines.number, "", path).error(str(error), "get the file again") from None
                yield Line(shown, lines.number, text, path)

    def texts(self, name: str) -> list[Line]:
        """The lines of a file of which each is a text. Raises InvalidData also for a blank one."""
        texts = list(self.lines(name))
        for line in texts:
            if not line.text.strip():
                raise line.error("it is empty", "line n of each file belongs together, so each needs its text")
        return texts

    def records(self, name: str) -> Iterator[tuple[Line, dict[str, Any]]]:
        """The JSON objects of a file, one a line; blank lines are left out. Raises InvalidData."""
        for line in self.lines(name):
            if line.text.strip():
                yield line, _object(line)

    def json(self, name: str) -> tuple[Line, Any]:
        """A file that is one JSON value, and its first line, for errors. Raises InvalidData."""
        lines = list(self.lines(name))
        first = lines[0] if lines else Line(f"{self.name}/{name}", 1, "", self.path / name)
        return first, _parsed(first, "\n".join(line.text for line in lines))


def checksum(path: Path) -> str:
    """SHA-256 of a file. Raises InvalidData where it can't be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InvalidData(
            f"{path.name} can't be read: {error.strerror}", hint="check who may read it", path=path
        ) from None


def _plain(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".zst")


def _object(line: Line) -> dict[str, Any]:
    value = _parsed(line, line.text)
    if not isinstance(value, dict):
        raise line.error(f"it is a {type(value).__name__}", "a line is one JSON object")
    return value


def _parsed(line: Line, text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise line.error(f"not JSON: {error.msg} at character {error.pos + 1}", "see that the file is whole") from None


def same_length(texts: Mapping[str, Sequence[Line]]) -> None:
    """Raise InvalidData where files whose lines belong together, by name, have different numbers of them."""
    name, longest = max(texts.items(), key=lambda item: len(item[1]))
    for other, lines in texts.items():
        if len(lines) < len(longest):
            raise InvalidData(
                f"{other} ends after line {len(lines):,}, {name} after line {len(longest):,}",
                hint="line n of each belongs together: get the shorter one again",
                path=longest[0].path.parent,
            )


# -- items


def identifier_of(line: Line, row: Mapping[str, Any]) -> str:
    """The `_id` or `id` of a record, a text or a whole number. Raises InvalidData."""
    value = row.get("_id", row.get("id"))
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise line.error("it has no _id that is a text", "every query and document has an id")
    identifier = str(value)
    if len(identifier.split()) != 1 or identifier != identifier.strip():
        raise line.error(f"the id {identifier!r} has a space", "a run file keeps ids apart by spaces")
    return identifier


def text_of(line: Line, row: Mapping[str, Any], name: str) -> str:
    """A member of a record that is a text, "" where it has none. Raises InvalidData where it is something else."""
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise line.error(f"its {name} is a {type(value).__name__}", f"{name} is a text")
    return value or ""


def tag_of(line: Line, value: object) -> str:
    """The canonical tag of a language. Raises InvalidData."""
    try:
        return canonical(value if isinstance(value, str) else "")
    except ValueError:
        raise line.error(f"{value!r} names no language", _TAG) from None


def items(records: Iterable[tuple[Line, Mapping[str, Any]]], *, tagged: bool = True) -> Items:
    """Of records in the BEIR form: `_id`, `text`, and where there are `title`, `lang` or `language`.

    tagged: whether these name languages that people speak; in collections of code they name others. Raises InvalidData
    for a record without id or without text and title, for an id that comes twice and a tag that is none.
    """
    rows: dict[str, tuple[str, str, str | None]] = {}
    for line, row in records:
        identifier = identifier_of(line, row)
        if identifier in rows:
            raise line.error(f"{identifier} was there before", "an id comes once")
        text, title = text_of(line, row, "text"), text_of(line, row, "title")
        if not (text.strip() or title.strip()):
            raise line.error(f"{identifier} has no text", "leave out what has none, from the judgements too")
        language = row.get("lang", row.get("language")) if tagged else None
        rows[identifier] = text, title, tag_of(line, language) if language else None
    texts, titles, languages = zip(*rows.values(), strict=True) if rows else ((), (), ())
    return Items(tuple(rows), texts, titles if any(titles) else (), languages if any(languages) else ())


def at(items: Items, places: Iterable[int]) -> Items:
    """Those at these places, in this order."""
    chosen = list(places)

    def of(column: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(column[place] for place in chosen) if column else ()

    return Items(of(items.ids), of(items.texts), of(items.titles), of(items.languages), of(items.pictures))


def common(languages: Sequence[str | None]) -> str | None:
    """The language that all have."""
    return languages[0] if len(set(languages)) == 1 else None


# -- judgements


def judgements(
    query: NDArray[np.int64] | Sequence[int],
    document: NDArray[np.int64] | Sequence[int],
    grade: NDArray[np.int64] | Sequence[int] | None = None,
) -> Judgements:
    """Of places in a task's items, (J,) each, in any order. grade: all 1 where it is None."""
    query, document = np.asarray(query, np.int64), np.asarray(document, np.int64)
    grades = np.ones(len(query), np.int64) if grade is None else np.asarray(grade, np.int64)
    order = np.lexsort((document, query))
    return Judgements(query[order], document[order], grades[order])


def same_group(queries: NDArray[np.int64], documents: NDArray[np.int64]) -> Judgements:
    """Every query with every document of its own group. queries: group of each, (Q,). documents: likewise, (N,)."""
    order = np.argsort(documents, kind="stable")
    first = np.searchsorted(documents[order], queries, side="left")
    count = np.searchsorted(documents[order], queries, side="right") - first
    query = np.repeat(np.arange(len(queries)), count)
    within = np.arange(len(query)) - np.repeat(np.cumsum(count) - count, count)
    return judgements(query, order[np.repeat(first, count) + within])
