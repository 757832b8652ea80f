"""The one SQLite file of a collection: its documents, units and vectors, and the transactions on them.

Everything else of a collection is derived from this file. A write is one transaction with `synchronous=FULL`: durable
when it returns, nothing of it before. Readers see one generation at a time; a generation is one committed write.

Metadata is stored twice: as JSON beside its document, to be returned, and as (name, value, document) rows, to be
filtered. Booleans are BLOBs there, since SQLite knows no boolean and `true` must not equal 1.
"""

import contextlib
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import apsw

from retriever.errors import CollectionBusy, CorruptCollection, PolyseekError, UnsupportedFormat
from retriever.reader import Reader
from retriever.records import Settings, settings_json
from retriever.writer import Writer

FORMAT = 1
APPLICATION_ID = 0x504F4C59  # "POLY"
FILE_NAME = "collection.sqlite"
# A writer waits this long for another one's transaction; the longest is one batch of a build.
BUSY_TIMEOUT_MS = 60_000

# Keys are never used twice (AUTOINCREMENT): what was derived from a key stays true for ever. Vectors have a table of
# their own, so that walking the units of a large collection doesn't read gigabytes of vectors.
SCHEMA = """
CREATE TABLE state (generation INTEGER NOT NULL, removals_since INTEGER NOT NULL, settings TEXT NOT NULL) STRICT;
CREATE TABLE documents (
    key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
    language TEXT NOT NULL, identified INTEGER NOT NULL, modality TEXT NOT NULL, image TEXT,
    captions BLOB NOT NULL, metadata BLOB NOT NULL, digest BLOB NOT NULL) STRICT;
CREATE TABLE pictures (
    document INTEGER PRIMARY KEY, picture BLOB, media_type TEXT NOT NULL, thumbnail BLOB NOT NULL) STRICT;
CREATE TABLE units (
    key INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL, kind INTEGER NOT NULL, language TEXT NOT NULL,
    modality TEXT NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, ordinal INTEGER NOT NULL,
    digest BLOB NOT NULL) STRICT;
CREATE INDEX units_document ON units (document);
CREATE INDEX units_language ON units (language);
CREATE TABLE vectors (unit INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT;
CREATE TABLE metadata (
    name TEXT, value ANY, document INTEGER, PRIMARY KEY (name, value, document)) STRICT, WITHOUT ROWID;
CREATE INDEX metadata_document ON metadata (document);
CREATE TABLE removals (generation INTEGER NOT NULL, unit INTEGER NOT NULL) STRICT;
CREATE INDEX removals_generation ON removals (generation);
"""


class Store:
    """The open file; safe to use from several threads, each transaction on a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()

    @classmethod
    def create(cls, path: Path, settings: Settings) -> Self:
        """Make the file; `path` must not exist."""
        with _translated(path):
            connection = apsw.Connection(str(path))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(SCHEMA)
            connection.execute("INSERT INTO state VALUES (0, 0, ?)", (settings_json(settings),))
            connection.execute("COMMIT")
            connection.close()
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file; raises UnsupportedFormat or CorruptCollection."""
        store = cls(path)
        with _translated(path):
            connection = store._connect()
            identity = connection.execute("PRAGMA application_id").get
            version = connection.execute("PRAGMA user_version").get
            store._idle.put(connection)
        if identity != APPLICATION_ID:
            raise CorruptCollection(f"{path} is not a collection of polyseek", hint="restore it from a snapshot")
        if version != FORMAT:
            raise UnsupportedFormat(
                f"{path} has format {version}, this release reads format {FORMAT}",
                hint="install the polyseek release that wrote it, or build the collection again from its sources",
            )
        return store

    def _connect(self) -> apsw.Connection:
        connection = apsw.Connection(str(self.path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.execute("PRAGMA synchronous = FULL; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY")
        return connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        """One read transaction."""
        with self._transaction("BEGIN") as connection:
            yield Reader(connection)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writer]:
        """One write transaction, committed when the block ends, undone when it raises."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            writer = Writer(connection)
            yield writer
            writer.finish()

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[apsw.Connection]:
        with _translated(self.path):
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                connection = self._connect()
            try:
                connection.execute(begin)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # A connection that failed inside a transaction isn't trusted with another one.
                connection.close(True)  # noqa: FBT003 - apsw takes no keyword
                raise
            self._idle.put(connection)

    def compact(self) -> None:
        """Give free pages back to the file system and move the write-ahead log into the file."""
        with _translated(self.path):
            connection = self._connect()
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()

    def close(self) -> None:
        """Close every idle connection."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise CorruptCollection(
            f"{path} is damaged: {error}", hint="restore it from a snapshot, or build it again from its sources"
        ) from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise CollectionBusy(
            f"another process held the write lock of {path} for over {BUSY_TIMEOUT_MS // 1000} s",
            hint="try again when its write has ended",
        ) from error
    except apsw.FullError as error:
        raise PolyseekError(
            f"no space left to write {path}; nothing of this batch was stored", hint="free space, then run it again"
        ) from error
    except apsw.CantOpenError as error:
        raise CorruptCollection(
            f"{path} can't be opened: {error}", hint="check that it exists and is readable"
        ) from error
