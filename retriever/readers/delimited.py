"""CSV and TSV: a document a row, the first row names the columns; plain, `.gz` or `.zst`.

Python's `csv` splits the rows: Arrow's CSV reader gives up on a file at the first damaged row and doesn't know the
lines that a quoted newline spans, where a build goes on and names the line.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from retriever.documents import RESERVED, Document
from retriever.errors import SourceError
from retriever.readers.base import MAX_BYTES, BadLine, Lines, Reject, document_or_reject

_TAB_ENDINGS = (".tsv", ".tsv.gz", ".tsv.zst")
ENDINGS = (".csv", ".csv.gz", ".csv.zst", *_TAB_ENDINGS)
OBJECT_COLUMNS = frozenset({"captions", "metadata"})

Convert = Callable[[str], Any]

# What a column's cells can be read as, the narrowest first. 18 digits always fit SQLite's 64 bits; a leading zero makes
# a code, not a number.
_KINDS: tuple[tuple[re.Pattern[str], Convert], ...] = (
    (re.compile(r"[Tt]rue|[Ff]alse"), lambda cell: cell in {"true", "True"}),
    (re.compile(r"-?(0|[1-9][0-9]{0,17})"), int),
    (re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?"), float),
)


def read_delimited(path: Path) -> Iterator[Document | Reject]:
    """The documents of a CSV or TSV file, one Document or Reject for each row below the header.

    Empty cells are absent; `captions` and `metadata` hold JSON objects. Another column becomes integers, numbers or
    booleans where every cell in it is one (the file is read twice for that), else strings.
    Raises SourceError where there is no header with an id.
    """
    header = _header(path)
    converters = _converters(path, header)
    rows = _rows(path)
    next(rows)
    for line, row in rows:
        yield row if isinstance(row, Reject) else _document(path, line, row, header, converters)


def _header(path: Path) -> list[str]:
    line, header = next(_rows(path), (1, []))
    if isinstance(header, Reject):
        raise SourceError(f"{path} has no header, line {line}: {header.reason}", hint="its first row names the columns")
    check_columns(path, header)
    return header


def check_columns(path: Path, names: Sequence[str]) -> None:
    """Raise SourceError where a table's columns don't make documents: no id among them, or one of them twice."""
    if not {"_id", "id"} & set(names):
        listed = ", ".join(names) or "none"
        raise SourceError(f"{path} has no column _id or id, its columns are: {listed}", hint="name the id's column id")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SourceError(f"{path} has the column {twice[0]} more than once", hint="rename one of them")


def _rows(path: Path) -> Iterator[tuple[int, list[str] | Reject]]:
    """The rows that aren't blank with the number of the line that each starts on."""
    # A setting of the whole process, only ever raised: the default refuses a cell of more than 131,072 characters.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_BYTES))
    delimiter = "\t" if path.name.lower().endswith(_TAB_ENDINGS) else ","
    with Lines(path) as lines:
        rows = csv.reader(map(_text, lines), delimiter=delimiter, strict=True)
        while True:
            start = lines.number + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except (BadLine, csv.Error) as error:
                yield start, Reject(str(path), start, None, f"not a row: {error}")
                continue
            if row:
                yield start, row


def _text(line: bytes) -> str:
    # Bytes that aren't UTF-8 stay visible as lone surrogates, so that only their own row is refused.
    return line.decode("utf-8", "surrogateescape")


def _document(path: Path, line: int, row: list[str], header: list[str], converters: list[Convert]) -> Document | Reject:
    if len(row) != len(header):
        return Reject(str(path), line, None, f"the row has {len(row)} cells, the header has {len(header)}")
    record: dict[str, Any] = {}
    for name, cell, convert in zip(header, row, converters, strict=True):
        try:
            cell.encode()
            if cell:
                record[name] = convert(cell)
        except UnicodeEncodeError:
            return Reject(str(path), line, None, f"invalid UTF-8 in column {name}")
        except orjson.JSONDecodeError as error:
            return Reject(str(path), line, None, f"column {name} holds a JSON object: {error.msg}")
    return document_or_reject(record, path, line, base=path.parent)


def _converters(path: Path, header: list[str]) -> list[Convert]:
    """How each column's cells are read, after a look at all of them."""
    candidates = [[] if name in RESERVED else list(_KINDS) for name in header]
    rows = _rows(path)
    next(rows)
    for _, row in rows:
        if not any(candidates):
            break
        if isinstance(row, Reject) or len(row) != len(header):
            continue
        for column, cell in enumerate(row):
            if cell and candidates[column]:
                candidates[column] = [kind for kind in candidates[column] if kind[0].fullmatch(cell)]
    return [
        orjson.loads if name in OBJECT_COLUMNS else kinds[0][1] if kinds else str
        for name, kinds in zip(header, candidates, strict=True)
    ]
