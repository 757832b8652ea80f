"""Parquet, Arrow IPC (files and streams) and Feather: a document a row, read by record batch."""

import datetime
import decimal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retriever.documents import Document
from retriever.readers.base import Reject, document_or_reject, unreadable
from retriever.readers.delimited import check_columns

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".arrow", ".feather", ".ipc")
# Rows that are Python objects at one time.
_ROWS = 512


def read_arrow(path: Path) -> Iterator[Document | Reject]:
    """The documents of a Parquet, Arrow or Feather file, one Document or Reject a row; `line` counts rows from 1.

    Nulls are absent, dates and times become ISO 8601, decimals numbers; `image` is a path relative to the file's folder
    or the encoded bytes of the picture. Raises SourceError where the file or its columns can't be read.
    """
    batches = _parquet(path) if path.suffix.lower() == ".parquet" else _ipc(path)
    row = 0
    try:
        for batch in batches:
            for record in _records(batch):
                row += 1
                yield _document(record, path, row)
    except _Damaged as error:
        yield Reject(str(path), row + 1, None, f"the file is damaged here, nothing after it was read: {error}")


class _Damaged(Exception):
    """A batch that can't be decoded."""


def _parquet(path: Path) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=True, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None
    with file:
        check_columns(path, file.schema_arrow.names)
        # A batch may span row groups, so that damage in one would take rows of the one before with it.
        for group in range(file.num_row_groups):
            yield from _undamaged(file.iter_batches(_ROWS, row_groups=[group], use_threads=False))


def _ipc(path: Path) -> "Iterator[pa.RecordBatch]":
    import pyarrow as pa

    try:
        source = pa.memory_map(str(path))
        reader = _ipc_reader(source)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, error) from None
    with source:
        check_columns(path, reader.schema.names)
        batches = (
            (reader.get_batch(number) for number in range(reader.num_record_batches))
            if isinstance(reader, pa.RecordBatchFileReader)
            else reader
        )
        for batch in _undamaged(batches):
            for start in range(0, batch.num_rows, _ROWS):
                yield batch.slice(start, _ROWS)


def _ipc_reader(source: "pa.MemoryMappedFile") -> "pa.RecordBatchFileReader | pa.RecordBatchStreamReader":
    import pyarrow as pa

    magic = source.read(6)
    source.seek(0)
    if magic[:4] == b"FEA1":
        raise pa.ArrowInvalid("it is Feather version 1, write it again as version 2")
    return pa.ipc.open_file(source) if magic == b"ARROW1" else pa.ipc.open_stream(source)


def _undamaged(batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
    """The batches, with Arrow's errors as _Damaged."""
    import pyarrow as pa

    try:
        yield from batches
    except (pa.ArrowException, OSError) as error:
        raise _Damaged(str(error)) from None


def _records(batch: "pa.RecordBatch") -> Iterator[Mapping[str, Any] | str]:
    """Each row as a dictionary, or the reason why it can't be one."""
    try:
        rows = _rows(batch)
    except _UNUSABLE:
        rows = None
    if rows is not None:
        yield from rows
        return
    for row in range(batch.num_rows):
        try:
            yield from _rows(batch.slice(row, 1))
        except _UNUSABLE as error:
            yield f"the row can't be read: {error}"


_UNUSABLE = (ValueError, OverflowError, KeyError, NotImplementedError)


def _rows(batch: "pa.RecordBatch") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = batch.to_pylist(maps_as_pydicts="strict")
    return rows


def _document(record: Mapping[str, Any] | str, path: Path, row: int) -> Document | Reject:
    if isinstance(record, str):
        return Reject(str(path), row, None, record)
    return document_or_reject({name: _plain(value) for name, value in record.items()}, path, row, base=path.parent)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value of a table
    """The value as JSON would have it."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    return value
