"""The one SQLite file of a collection: its documents, units and vectors, and the transactions on them.

Everything else of a collection is derived from this file. A write is one transaction with `synchronous=FULL`: durable
when it returns, nothing of it before. Readers see one generation at a time; a generation is one committed write.

Metadata is stored twice: as JSON beside its document, to be returned, and as (name, value, document) rows, to be
filtered. Booleans are BLOBs there, since SQLite knows no boolean and `true` must not equal 1.

    collection.sqlite              the truth, with a checksum on every page (database.py)
    collection.sqlite-wal, -shm    SQLite's write-ahead log and its shared memory
    collection.sqlite-generation   the newest committed generation, to notice a log that lost some (witness.py)

No other code may open the SQLite file while a process has it open as a `Store`: closing any descriptor of it drops the
locks that SQLite holds on it for the whole process (so POSIX wants it).
"""

import contextlib
import os
import queue
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import apsw

from retriever.database import CHECKSUM_BYTES, CHECKSUMS, RESTORE, check_checksums, check_whole, connect, translated
from retriever.errors import CollectionReplaced, CorruptCollection, PolyseekError, StorageFailed, UnsupportedFormat
from retriever.files import in_root, sync_file
from retriever.reader import Reader
from retriever.records import Settings, settings_json
from retriever.witness import remember, remembered, witness_path
from retriever.writer import Writer

FORMAT = 2
APPLICATION_ID = 0x504F4C59  # "POLY"
FILE_NAME = "collection.sqlite"
# A backup is copied in steps of 4 MiB, so that it can be interrupted.
BACKUP_PAGES = 1024

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
CREATE INDEX units_modality ON units (modality) WHERE modality != 'text';
CREATE TABLE vectors (unit INTEGER PRIMARY KEY, vector BLOB NOT NULL) STRICT;
CREATE TABLE metadata (
    name TEXT, value ANY, document INTEGER, PRIMARY KEY (name, value, document)) STRICT, WITHOUT ROWID;
CREATE INDEX metadata_document ON metadata (document);
CREATE TABLE removals (generation INTEGER NOT NULL, unit INTEGER NOT NULL) STRICT;
CREATE INDEX removals_generation ON removals (generation);
CREATE TABLE changes (document INTEGER PRIMARY KEY, generation INTEGER NOT NULL) STRICT;
CREATE INDEX changes_generation ON changes (generation);
CREATE TABLE queries (number INTEGER PRIMARY KEY, text TEXT, vector BLOB NOT NULL) STRICT;
"""


class Store:
    """The open file; safe to use from several threads, each transaction on a connection of its own.

    It stays with the file that it opened: once the path names another one, every transaction raises CollectionReplaced.
    A process forked from one that has it open can neither use it nor open it again: SQLite, which remembers locks by
    process, takes the parent's for its own there, and so takes none, for connections of the child's own too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process = os.getpid()
        self._idle: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
        try:
            # Held, so that no other file gets its inode; O_PATH, since closing that drops no locks of SQLite's.
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise StorageFailed(
                f"{in_root(path)} can't be opened: {error.strerror}",
                hint="check that it exists and who may read its folder",
                path=path,
            ) from error
        self._release = weakref.finalize(self, os.close, descriptor)
        self._identity = _identity(os.fstat(descriptor))
        if self._identity in _INHERITED:
            raise _forked(path)
        _OPEN.add(self)
        # Never in a transaction that may fail. Were the last connection closed after a commit that couldn't be synced,
        # the next one would recover the log and find that commit in it, neither answered nor durable.
        self._anchor: apsw.Connection | None = None

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode of the file that was opened."""
        return self._identity

    @classmethod
    def create(cls, path: Path, settings: Settings) -> Self:
        """Make the file; `path` must not exist."""
        with translated(path):
            connection = connect(path, create=True)
            try:
                # Before anything is written, which makes the pages as they stay.
                connection.reserve_bytes(reserve=CHECKSUM_BYTES)
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}")
                connection.execute(SCHEMA)
                connection.execute("INSERT INTO state VALUES (0, 0, ?)", (settings_json(settings),))
                connection.execute("COMMIT")
            except BaseException:
                connection.close(True)  # noqa: FBT003 - apsw takes no keyword
                raise
        store = cls(path)
        store._anchor = connection
        return store

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file; raises UnsupportedFormat, CorruptCollection, StorageFailed."""
        store = cls(path)
        try:
            store._check()
        except BaseException as error:
            store.close()
            if isinstance(error, FileNotFoundError):
                store.check_identity()
            raise
        return store

    def _check(self) -> None:
        """Whatever can be checked without reading the whole file."""
        # Read before the store's generation, which may grow meanwhile.
        committed = remembered(self.path)
        with translated(self.path):
            self._anchor = connect(self.path)
            _check_format(self._anchor, self.path)
            check_checksums(self._anchor, self.path)
            # Before any table is read, which a file that is cut off may not have.
            self._anchor.execute("BEGIN")
            check_whole(self._anchor, self.path)
            self._anchor.execute("COMMIT")
        with self.reading() as reader:
            generation = reader.generation
        if generation < committed:
            raise CorruptCollection(
                f"{in_root(self.path)} ends at generation {generation}, but {committed} was committed: its write-ahead "
                "log was damaged or removed, or an older file was put in its place",
                hint="restore it from a snapshot, or to go on without what is lost, delete "
                f"{in_root(witness_path(self.path))}",
                path=self.path,
            )

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
        if writer.wrote:
            remember(self.path, writer.outcome)

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the write lock for the block and change nothing: for whoever renames the folder."""
        with translated(self.path), self._unless_replaced():
            connection = self._take()
            try:
                connection.execute("BEGIN IMMEDIATE")
                self.check_identity()
                yield
            finally:
                connection.close(True)  # noqa: FBT003

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[apsw.Connection]:
        with translated(self.path), self._unless_replaced():
            connection = self._take()
            try:
                connection.execute(begin)
                # SQLite opens the log by its name at the first read: only after it is everything of the same file.
                connection.execute("SELECT generation FROM state").get  # noqa: B018
                self.check_identity()
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # A connection that failed inside a transaction isn't trusted with another one.
                connection.close(True)  # noqa: FBT003
                raise
            self._idle.put(connection)

    def check_process(self) -> None:
        """Raise PolyseekError in a fork of the process that opened it; there, any lock may be held for ever."""
        if os.getpid() != self._process:
            raise _forked(self.path)

    def _take(self) -> apsw.Connection:
        """An idle connection, or a new one."""
        self.check_process()
        with contextlib.suppress(queue.Empty):
            return self._idle.get_nowait()
        connection = connect(self.path)
        self.check_identity()
        check_checksums(connection, self.path)
        return connection

    @contextlib.contextmanager
    def _unless_replaced(self) -> Iterator[None]:
        """What SQLite meets in a folder that is gone, or another one's by now, is CollectionReplaced, not damage."""
        try:
            yield
        except apsw.Error:
            self.check_identity()
            raise

    def check_identity(self) -> None:
        """Raise CollectionReplaced where the path no longer names the file that was opened."""
        try:
            same = _identity(self.path.stat()) == self._identity
        except (FileNotFoundError, NotADirectoryError):
            same = False
        if not same:
            raise CollectionReplaced(
                f"{self.path.parent.name} was replaced or dropped while it was open", hint="open it again"
            )

    def backup(self, path: Path) -> None:
        """Copy the newest generation into a new file, durable when it returns, while writers go on.

        Raises FileExistsError where `path` exists, CorruptCollection where a page of the original is damaged,
        StorageFailed, StorageFull; then `path` is gone again.
        """
        path.touch(exist_ok=False)
        try:
            with self._transaction("BEGIN") as connection, translated(self.path, written=path):
                # The first read settles the generation that is copied.
                Reader(connection)
                _copy(connection, path)
            sync_file(path)
        except BaseException:
            path.unlink()
            raise

    def compact(self) -> None:
        """Give free pages back to the file system and move the write-ahead log into the file."""
        with translated(self.path), self._unless_replaced():
            connection = self._take()
            try:
                self.check_identity()
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()

    def close(self) -> None:
        """Close every idle connection; the write-ahead log goes into the file, unless others are busy with it."""
        if os.getpid() != self._process:
            return
        _OPEN.discard(self)
        if self._anchor is not None:
            # Nothing is lost where that fails: whoever opens the file next finds the log as it is.
            with contextlib.suppress(apsw.Error, CollectionReplaced):
                self.check_identity()
                self._anchor.set_busy_timeout(0)
                self._anchor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()
        if self._anchor is not None:
            self._anchor.close()
            self._anchor = None
        self._release()


# The stores that are open; in a fork, the identities of those that the parent had open, and these, never to be closed.
_OPEN: weakref.WeakSet[Store] = weakref.WeakSet()
_INHERITED: set[tuple[int, int]] = set()
_KEPT: list[Store] = []


def _inherit() -> None:
    _KEPT.extend(_OPEN)
    _INHERITED.update(store.identity for store in _OPEN)
    _OPEN.clear()


os.register_at_fork(after_in_child=_inherit)


def _forked(path: Path) -> PolyseekError:
    return PolyseekError(
        f"{in_root(path)} is open in the process that {os.getpid()} was forked from, and can't be used in the fork",
        hint="start the process by spawn instead of fork, or fork before the collection is opened",
    )


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _check_format(connection: apsw.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").get != APPLICATION_ID:
        raise CorruptCollection(f"{in_root(path)} is not a collection of polyseek", hint=RESTORE)
    version = connection.execute("PRAGMA user_version").get
    if version != FORMAT:
        raise UnsupportedFormat(
            f"{in_root(path)} has format {version}, this release reads format {FORMAT}",
            hint="install the polyseek release that wrote it, or build the collection again from its sources",
        )


def _copy(source: apsw.Connection, path: Path) -> None:
    target = apsw.Connection(str(path), vfs=CHECKSUMS)
    try:
        # Nobody knows of the file before it is whole and synced.
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")
        # A page that is still in the log of the original has no checksum yet. It gets one when it is written into a
        # file whose header is known to want them: so there is a header first.
        target.reserve_bytes(reserve=CHECKSUM_BYTES)
        target.execute(f"PRAGMA user_version = {FORMAT}")
        with target.backup("main", source, "main") as backup:
            while not backup.done:
                backup.step(BACKUP_PAGES)
    finally:
        target.close()
