"""Lines of a dataset's files, plain or compressed, with errors that name the place; and what was read, by checksum."""

import gzip
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from eval.tasks import Items, Judgements
from retriever.errors import InvalidData
from retriever.languages import canonical


class Line(NamedTuple):
    """number: from 1. file: by its name in the dataset."""

    file: str
    number: int
    text: str

    def error(self, message: str, hint: str) -> InvalidData:
        """What is wrong with it."""
        return InvalidData(f"{self.file}, line {self.number}: {message}", hint=hint)


class Folder:
    """A dataset's folder. Every file that was read is in `checksums`, SHA-256 by its path from the folder."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidData where it is no folder."""
        if not path.is_dir():
            raise InvalidData(f"{path.name} is no folder", hint="give the folder of a dataset", path=path)
        self.path = path
        self.checksums: dict[str, str] = {}

    def find(self, name: str) -> str | None:
        """The name of a file as it lies there, itself or compressed."""
        return next((each for each in (name, f"{name}.gz") if (self.path / each).is_file()), None)

    def lines(self, name: str) -> Iterator[Line]:
        """Its lines that aren't blank. Raises InvalidData where it is missing, damaged or not UTF-8."""
        found = self.find(name)
        if found is None:
            raise InvalidData(
                f"{self.path.name} has no {name}", hint=f"it takes {name} or {name}.gz", path=self.path / name
            )
        try:
            content = (self.path / found).read_bytes()
            self.checksums[found] = hashlib.sha256(content).hexdigest()
            text = (gzip.decompress(content) if found.endswith(".gz") else content).decode("utf-8-sig")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise InvalidData(f"{found} can't be read: {error}", hint="get it again", path=self.path / found) from None
        # Not splitlines: a text may hold U+2028 or a vertical tab.
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield Line(found, number, line.rstrip("\r"))


def record(line: Line) -> dict[str, Any]:
    """The JSON object of a line. Raises InvalidData."""
    try:
        value = orjson.loads(line.text)
    except orjson.JSONDecodeError as error:
        raise line.error(f"not JSON: {error}", "a line is one JSON object") from None
    if not isinstance(value, dict):
        raise line.error(f"a {type(value).__name__}", "a line is one JSON object")
    return value


def items(lines: Iterable[tuple[Line, Mapping[str, Any]]]) -> Items:
    """Of records in the BEIR form: `_id`, `text`, and where there are `title`, `lang` or `language`.

    Raises InvalidData for a record without id or text, and for an id that comes twice.
    """
    rows: dict[str, tuple[str, str, str | None]] = {}
    for line, row in lines:
        identifier = row.get("_id", row.get("id"))
        if not isinstance(identifier, str) or not identifier:
            raise line.error("it has no _id that is a text", "every query and document has an id")
        if identifier in rows:
            raise line.error(f"{identifier} was there before", "an id comes once")
        text, title = row.get("text") or "", row.get("title") or ""
        if not (isinstance(text, str) and isinstance(title, str) and (text + title).strip()):
            raise line.error(f"{identifier} has no text", "leave out what has none, from the judgements too")
        language = row.get("lang") or row.get("language")
        rows[identifier] = text, title, _language(language)
    texts, titles, languages = zip(*rows.values(), strict=True) if rows else ((), (), ())
    return Items(tuple(rows), texts, titles if any(titles) else (), languages if any(languages) else ())


def _language(value: object) -> str | None:
    """None where it is none: collections of code name programming languages there."""
    try:
        return canonical(value) if isinstance(value, str) else None
    except ValueError:
        return None


def chosen(items: Items, ids: Iterable[str]) -> Items:
    """Those with these ids, in their own order."""
    wanted = set(ids)
    places = [place for place, identifier in enumerate(items.ids) if identifier in wanted]

    def of(column: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(column[place] for place in places) if column else ()

    return Items(of(items.ids), of(items.texts), of(items.titles), of(items.languages), of(items.pictures))


def judgements(grades: Mapping[tuple[str, str], int], queries: Items, corpus: Items) -> Judgements:
    """From (query's id, document's id) -> grade."""
    place = {identifier: place for place, identifier in enumerate(queries.ids)}
    row = {identifier: place for place, identifier in enumerate(corpus.ids)}
    rows = sorted((place[query], row[document], grade) for (query, document), grade in grades.items())
    columns = np.array(rows, np.int64).reshape(-1, 3)
    return Judgements(columns[:, 0], columns[:, 1], columns[:, 2])
