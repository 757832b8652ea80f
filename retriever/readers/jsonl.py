"""JSON Lines: a document a line, plain, `.gz` or `.zst`. BEIR's `corpus.jsonl` is one as it is."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from retriever.documents import Document
from retriever.errors import SourceError
from retriever.readers.base import BadLine, Lines, Reject, document_or_reject

ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst")


def read_jsonl(path: Path) -> Iterator[Document | Reject]:
    """The documents of a file, one Document or Reject for each line that isn't blank.

    An `image` is relative to the file's folder. Raises SourceError where the file can't be opened.
    """
    for line, record in json_records(path):
        if isinstance(record, Reject):
            yield record
        else:
            yield document_or_reject(record, path, line, base=path.parent)


def read_beir(folder: Path) -> Iterator[Document | Reject]:
    """The documents of a BEIR folder. Its queries and judgements belong to an evaluation and aren't read."""
    corpus = beir_corpus(folder)
    if corpus is None:
        raise SourceError(
            f"{folder} holds no corpus.jsonl, corpus.jsonl.gz or corpus.jsonl.zst",
            hint="name a BEIR folder, or the JSONL file itself with --format jsonl",
        )
    yield from read_jsonl(corpus)


def beir_corpus(folder: Path) -> Path | None:
    """The corpus of a BEIR folder, or None where there is none."""
    return first_file(folder, [f"corpus{ending}" for ending in ENDINGS[:3]])


def first_file(folder: Path, names: list[str]) -> Path | None:
    """The first of `names` that is a file in the folder."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def json_records(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | Reject]]:
    """The number and the object of each line that isn't blank, a Reject in place of one that isn't a JSON object."""
    for number, line in _lines(path):
        if isinstance(line, BadLine):
            yield number, Reject(str(path), number, None, str(line))
        else:
            yield number, _object(line, path, number)


def count_records(path: Path) -> int:
    """How many `json_records` there are, without a look into them."""
    return sum(1 for _ in _lines(path))


def _lines(path: Path) -> Iterator[tuple[int, bytes | BadLine]]:
    """The number of each line that isn't blank, and the line or why it can't be had."""
    with Lines(path) as lines:
        while True:
            try:
                line = next(lines)
            except StopIteration:
                return
            except BadLine as error:
                yield lines.number, error
            else:
                if line and not line.isspace():
                    yield lines.number, line


def _object(line: bytes, path: Path, number: int) -> Mapping[str, Any] | Reject:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Reject(str(path), number, None, _why_not_json(line, error))
    if not isinstance(value, dict):
        return Reject(str(path), number, None, f"a document is a JSON object, not {type(value).__name__}")
    return value


def _why_not_json(line: bytes, error: orjson.JSONDecodeError) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as invalid:
        return f"invalid UTF-8: byte 0x{line[invalid.start]:02x} at byte {invalid.start + 1} of the line"
    return f"not JSON: {error.msg} at character {error.pos + 1}"
