"""How a collection's SQLite file is opened: checksums on every page, durable commits, SQLite's errors as ours.

The checksums are SQLite's own (its `cksumvfs` extension, which comes with apsw): the last 8 bytes of each page are the
checksum of the others, written with the page and verified whenever it is read from the file. The write-ahead log has
checksums of its own, which SQLite verifies when it recovers the log. What neither can see is found by `check_whole`.
"""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import apsw.sqlite_extra
import numpy as np
from numpy.typing import NDArray

from retriever.errors import (
    CollectionBusy,
    CorruptCollection,
    MissingDependency,
    PolyseekError,
    StorageFailed,
    StorageFull,
)
from retriever.files import in_root

CHECKSUMS = "cksmvfs"
CHECKSUM_BYTES = 8
# A writer waits this long for another one's transaction; the longest is one batch of a build.
BUSY_TIMEOUT_MS = 60_000
# The log of a large batch gives its space back when the next one starts.
LOG_BYTES_KEPT = 64 << 20
RESTORE = "restore it from a snapshot, or build it again from its sources"
# SQLite never uses the page of the file's byte 2**30: its locks are there.
LOCKS_AT = 1 << 30
LOG_HEADER = 32

_registering = threading.Lock()


def register_checksums() -> None:
    """Make SQLite's checksumming file layer known, on top of the layer that is the default now, which stays it."""
    with _registering:
        layers = apsw.vfs_names()
        if CHECKSUMS in layers:
            return
        connection = apsw.Connection(":memory:")
        try:
            apsw.sqlite_extra.load(connection, "cksumvfs")
        except (LookupError, apsw.sqlite_extra.NotAvailable, apsw.ExtensionLoadingError) as error:
            raise MissingDependency(
                f"this installation of apsw has no cksumvfs: {error}",
                hint="install apsw from its wheel: pip install apsw",
            ) from error
        finally:
            connection.close()
        apsw.set_default_vfs(layers[0])


def connect(path: Path, *, create: bool = False) -> apsw.Connection:
    """A connection that commits durably and never touches the log when it closes.

    SQLite's last connection would otherwise move the log into the file and delete it *by its name*, which is another
    collection's by then if the folder was replaced meanwhile. `Store.close` empties the log instead.
    """
    register_checksums()
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    connection = apsw.Connection(str(path), flags=flags, vfs=CHECKSUMS)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.execute("PRAGMA synchronous = FULL; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES_KEPT}")
    return connection


def check_checksums(connection: apsw.Connection, path: Path) -> None:
    """Raise CorruptCollection where pages are not verified: the header byte that says so is not covered by itself."""
    if connection.execute("PRAGMA checksum_verification").get != "1":
        raise CorruptCollection(
            f"{in_root(path)} is damaged: its header denies the checksums of its pages", hint=RESTORE
        )


def check_whole(connection: apsw.Connection, path: Path) -> None:
    """Raise CorruptCollection where the file ends before a page that isn't in the log either.

    SQLite compares its size only where the log is empty, and reads what is missing as zeros. To be called in a
    transaction, so that the pages of the log stay there.
    """
    page_size = connection.execute("PRAGMA page_size").get
    pages = connection.execute("PRAGMA page_count").get
    held = path.stat().st_size // page_size
    if pages <= held:
        return
    missing = np.setdiff1d(np.arange(held + 1, pages + 1), _logged_pages(path, page_size))
    if len(missing) and missing.tolist() != [LOCKS_AT // page_size + 1]:
        raise CorruptCollection(
            f"{in_root(path)} is damaged: {len(missing)} of its {pages} pages are cut off", hint=RESTORE
        )


def _logged_pages(path: Path, page_size: int) -> NDArray[np.int64]:
    """Numbers of the pages that the write-ahead log holds. Its format: https://sqlite.org/walformat.html ."""
    frame = np.dtype(
        [("page", ">u4"), ("commit", ">u4"), ("salt", "V8"), ("checksum", "V8"), ("content", f"V{page_size}")]
    )
    log = path.with_name(f"{path.name}-wal").read_bytes()
    if len(log) < LOG_HEADER:
        return np.empty(0, np.int64)
    frames = np.frombuffer(log, dtype=frame, offset=LOG_HEADER, count=(len(log) - LOG_HEADER) // frame.itemsize)
    return np.asarray(frames["page"][frames["salt"] == np.void(log[16:24])], dtype=np.int64)


@contextlib.contextmanager
def translated(path: Path, *, written: Path | None = None) -> Iterator[None]:
    """SQLite's errors as ours. written: the file that is written to, where it isn't `path` itself."""
    target = written or path
    try:
        yield
    except apsw.Error as error:
        raise _ours(error, path, target) from error


def _ours(error: apsw.Error, path: Path, target: Path) -> Exception:
    match error:
        case apsw.CorruptError() | apsw.NotADBError():
            return CorruptCollection(f"{in_root(path)} is damaged: {error}", hint=RESTORE)
        case apsw.BusyError() | apsw.LockedError():
            return CollectionBusy(
                f"another process held the write lock of {in_root(path)} for over {BUSY_TIMEOUT_MS // 1000} s",
                hint="try again when its write has ended",
            )
        case apsw.FullError():
            return _full(target)
        case apsw.IOError():
            return _io(error, path, target)
        case apsw.CantOpenError() | apsw.ReadOnlyError() | apsw.PermissionsError():
            return StorageFailed(
                f"{in_root(target)} can't be opened or written: {error}",
                hint="check that it exists, that its file system isn't read-only, and who may write it and its folder",
                path=target,
            )
        case _:
            return error


def _io(error: apsw.Error, path: Path, target: Path) -> PolyseekError:
    code = getattr(error, "extendedresult", 0)  # apsw's annotations lack it
    if code == apsw.SQLITE_IOERR_DATA:
        return CorruptCollection(f"{in_root(path)} is damaged: a page differs from its checksum", hint=RESTORE)
    if code in (apsw.SQLITE_IOERR_SHORT_READ, apsw.SQLITE_IOERR_CORRUPTFS):
        return CorruptCollection(f"{in_root(path)} is damaged: it, or its write-ahead log, is cut off", hint=RESTORE)
    # SQLite gives its shared memory its size when the file is opened.
    if code == apsw.SQLITE_IOERR_SHMSIZE:
        return _full(target)
    name = apsw.mapping_extended_result_codes.get(code, error)
    return StorageFailed(
        f"reading or writing {in_root(target)} failed: {name}",
        hint="check the disk and the system's log, then run it again: nothing is stored twice",
        path=target,
    )


def _full(target: Path) -> StorageFull:
    return StorageFull(
        f"no space left to write {in_root(target)}; nothing of this batch was stored",
        hint="free space, then run it again",
        path=target,
    )
