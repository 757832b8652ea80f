"""What every reader shares: the record that can't be used, lines of bounded length, files of bounded size, folders."""

import gzip
import io
import os
import stat
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, cast

import numpy as np
from numpy.typing import NDArray

from retriever.documents import Document, Modality, record_id
from retriever.errors import InvalidDocument, SourceError
from retriever.pictures import check_picture

# What one line or one file of text may hold: it bounds the memory of a build, not what a document may be.
MAX_BYTES = 64 * 2**20
_BUFFER = 2**16
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that can't be used: the file that holds it, its line (1-based, None where it has none), id and reason.

    Every member can be encoded as UTF-8; what can't stands as an escape (a file name that isn't UTF-8, say).
    """

    file: str
    line: int | None
    id: str | None
    reason: str

    def __post_init__(self) -> None:
        for name in ("file", "id", "reason"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, encodable(value))


def encodable(text: str) -> str:
    """`text` with an escape for every lone surrogate."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class BadLine(Exception):
    """A line that can't be had; its message is the reason."""


class Lines:
    r"""The lines of a plain, `.gz` or `.zst` file as bytes, split at \n alone; `number`, from 1, is the last one's.

    A byte order mark is dropped. `next` raises BadLine for a line that can't be had and goes on with the following one;
    after a compressed file's damage there is none. Memory is bounded by MAX_BYTES. Raises SourceError where the file
    can't be opened. A context manager.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._stream = _open(path)
        except OSError as error:
            raise unreadable(path, error) from None
        self._broken = False
        self.number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._broken:
            raise StopIteration
        self.number += 1
        line = self._read()
        if not line:
            raise StopIteration
        if len(line) > MAX_BYTES:
            while line and not line.endswith(b"\n"):
                line = self._read()
            raise BadLine(f"a line may have {MAX_BYTES:,} bytes, this one has more")
        return line.removeprefix(_BOM) if self.number == 1 else line

    def _read(self) -> bytes:
        try:
            return self._stream.readline(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            self._broken = True
            raise BadLine(f"the file breaks off or is damaged here, nothing after it was read: {error}") from None


def _open(path: Path) -> BinaryIO:
    match path.suffix.lower():
        case ".gz":
            return cast("BinaryIO", gzip.open(path, "rb"))
        case ".zst":
            import pyarrow as pa

            stream = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
            return io.BufferedReader(stream, _BUFFER)
        case _:
            return path.open("rb", buffering=_BUFFER)


def unreadable(path: Path, error: Exception) -> SourceError:
    """The error for a source that can't be opened."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return SourceError(f"{encodable(str(path))} can't be read: {reason}", hint="check the path and who may read it")


def document_or_reject(
    record: Mapping[str, Any],
    file: Path,
    line: int | None,
    *,
    base: Path | None = None,
    modality: Modality = "text",
    vector: NDArray[np.float32] | None = None,
) -> Document | Reject:
    """The document of a record, or why there is none; the header of its picture is looked at.

    base: the folder that a relative `image` starts from. vector: shape (d,), where the source has one.
    """
    try:
        document = Document.from_record(record, base=base, modality=modality, vector=vector, origin=(str(file), line))
        picture = document.picture if document.picture is not None else document.image_file
        if picture is not None:
            check_picture(picture)
    except InvalidDocument as error:
        return Reject(str(file), line, record_id(record), str(error))
    return document


@dataclass(frozen=True, slots=True)
class Found:
    """A file below a source: where it is, and its path relative to the source with `/` between the parts."""

    path: Path
    name: str


def walk(source: Path, suffixes: Collection[str]) -> Iterator[Found | Reject]:
    """The files at or below `source` whose suffix (lower case) is one of `suffixes`, by name within each folder.

    A source that is a file is found whatever its suffix. Hidden files and folders, `__pycache__` and links to folders
    are left out; a folder that can't be listed is a Reject.
    """
    if not source.is_dir():
        yield Found(source, source.name)
        return
    failures: list[OSError] = []
    for folder, folders, names in os.walk(source, onerror=failures.append):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                path = Path(folder, name)
                yield Found(path, path.relative_to(source).as_posix())
        yield from _drained(failures)
    yield from _drained(failures)


def _drained(failures: list[OSError]) -> Iterator[Reject]:
    while failures:
        error = failures.pop()
        yield Reject(str(error.filename), None, None, f"the folder can't be listed: {error.strerror}")


def read_bytes(path: Path) -> bytes:
    """The content of a regular file of at most MAX_BYTES. Raises InvalidDocument."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InvalidDocument("it is not a regular file")
        if status.st_size > MAX_BYTES:
            raise InvalidDocument(f"a file may have {MAX_BYTES:,} bytes, this one has {status.st_size:,}")
        return path.read_bytes()
    except OSError as error:
        raise InvalidDocument(f"it can't be read: {error.strerror}") from None


def decoded(content: bytes) -> str:
    r"""UTF-8 as text with newlines as `\n`, without a byte order mark. Raises InvalidDocument where it isn't UTF-8."""
    try:
        text = content.removeprefix(_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidDocument(f"invalid UTF-8: byte 0x{content[error.start]:02x} in line {line}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
