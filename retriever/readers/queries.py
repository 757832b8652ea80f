"""Queries to measure or compare by: a text file, JSON Lines, or ready-made vectors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retriever.errors import SourceError
from retriever.readers.base import BadLine, Lines, Reject
from retriever.readers.jsonl import ENDINGS, json_records
from retriever.readers.vectors import mapped


def read_queries(path: Path) -> list[str] | NDArray[np.float32]:
    """The queries of a file in its order: texts, or vectors float32 (n, d).

    `.npy` holds vectors, n x d of float32 or float16; JSON Lines (also `.gz`, `.zst`) hold objects with `text`, as
    BEIR's `queries.jsonl`; every other file holds one query a line, blank lines left out. Raises SourceError where the
    file can't be read, a line holds no query, or there is none.
    """
    name = path.name.lower()
    if name.endswith(".npy"):
        queries: list[str] | NDArray[np.float32] = np.array(mapped(path), dtype=np.float32)
    else:
        queries = list(_texts_of_objects(path) if name.endswith(ENDINGS) else _texts_of_lines(path))
    if len(queries) == 0:
        raise SourceError(f"{path} holds no queries", hint="one query a line, or JSON Lines with `text`")
    return queries


def _texts_of_objects(path: Path) -> Iterator[str]:
    for number, record in json_records(path):
        if isinstance(record, Reject):
            raise _bad_line(path, number, record.reason)
        text = record.get("text")
        if not isinstance(text, str) or not text.strip():
            raise _bad_line(path, number, "it has no `text` that is a query")
        yield text


def _texts_of_lines(path: Path) -> Iterator[str]:
    with Lines(path) as lines:
        try:
            for line in lines:
                if text := line.decode("utf-8").strip():
                    yield text
        except BadLine as error:
            raise _bad_line(path, lines.number, str(error)) from None
        except UnicodeDecodeError as error:
            raise _bad_line(path, lines.number, f"invalid UTF-8 at byte {error.start + 1}") from None


def _bad_line(path: Path, number: int, reason: str) -> SourceError:
    return SourceError(f"{path}, line {number}: {reason}", hint="mend the line, or take it out")
