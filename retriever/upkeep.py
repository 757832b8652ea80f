"""The newest view of an open collection, and the thread that keeps its derived indices in step behind it."""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from retriever.derived import TAIL, Derived, Snapshots
from retriever.errors import CollectionReplaced, PolyseekError, StorageFailed
from retriever.files import DamagedIndex, storage_errors
from retriever.indexer import Indexer
from retriever.indexing import Stopped
from retriever.machine import cores
from retriever.owner import Owner, shared
from retriever.reader import Reader
from retriever.residence import Residence
from retriever.store import Store
from retriever.vectors import Build
from retriever.view import View

# Writes that follow each other within this time are taken in together.
PAUSE_SECONDS = 0.05
# What couldn't be done is tried again after this time, or when something is written.
RETRY_SECONDS = 10.0
# What a search may still be using is kept for so long after its successor has taken its place.
LINGER_SECONDS = 1.0

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


def _in_its_folder(method: "Callable[Concatenate[Upkeep, P], T]") -> "Callable[Concatenate[Upkeep, P], T]":
    """The errors of its files, typed: StorageFailed, StorageFull, CollectionReplaced where the folder was."""

    @functools.wraps(method)
    def checked(self: "Upkeep", /, *args: P.args, **members: P.kwargs) -> T:
        known = self._derived
        self._store.check_process()
        with storage_errors(self._folder):
            try:
                try:
                    return method(self, *args, **members)
                except DamagedIndex:
                    # The first vectors of all may have come in between: before them there was no dimension.
                    if known is not None and known.vectors.dimension:
                        raise
                    return method(self, *args, **members)
            except FileNotFoundError:
                self._store.check_identity()
                raise

    return checked


class _Held(NamedTuple):
    """A view, and the stamp of the dense index when it was last looked at, or before; None to look again."""

    view: View
    stamp: tuple[int, int] | None


class Upkeep:
    """Views of one collection and the care for what they stand on; safe to use from several threads.

    What a view stands on stays true whatever comes after it, since an index can only lag behind. So with `background`
    no search waits while newer files are opened and checked, or damaged ones made again: a thread does that, and the
    views stand on what there was before until it has ended.

    memory: bytes that building an index may take, None for a share of what is available. background: whether a thread
    takes in what was written, builds indices and keeps the vectors on a GPU where there is one; without it `settle`
    does all of this but the last. gpu_memory: bytes that vectors may take there, of all collections together, None for
    a share of what is free; with 0 nothing is done on a GPU.
    """

    def __init__(
        self, folder: Path, store: Store, *, memory: int | None, gpu_memory: int | None, background: bool
    ) -> None:
        self._folder = folder
        self._store = store
        self._memory = memory
        self._background = background
        self._gpu_memory = gpu_memory
        self._residence: Residence | None = None
        self._held: _Held | None = None
        self._derived: Derived | None = None
        self._refreshing = threading.Lock()
        self._deriving = threading.Lock()
        self._mending = threading.Lock()
        self._due = threading.Event()
        self._closed = threading.Event()
        self._keeper: threading.Thread | None = None
        self._openers: list[threading.Thread] = []
        self._opening = False
        self._failure: str | None = None
        self.mended = 0

    def derived(self) -> Derived:
        """The derived indices, for vectors of the dimension that the collection has by now."""
        with self._deriving:
            if self._derived is None or self._derived.vectors.dimension == 0:
                with self._store.reading() as reader:
                    dimension = reader.settings().dimension or 0
                self._derived = Derived(self._folder, self._store, dimension)
            return self._derived

    @contextlib.contextmanager
    def at_newest(self) -> Iterator[tuple[View, Reader]]:
        """A read transaction on the newest generation, and the view of the same generation."""
        while True:
            with self._store.reading() as reader:
                held = self._held
                if held is not None and (held.view.generation, held.stamp) == (reader.generation, self._stamp()):
                    yield held.view, reader
                    return
                newest = reader.generation
            self._refresh(newest)

    def written(self) -> None:
        """Something was written: a little is taken in behind the writer's back, much before he goes on."""
        # It stays written where the folder was replaced since: whoever replaced it has it.
        with contextlib.suppress(CollectionReplaced):
            try:
                self._take_in()
            except StorageFailed as error:
                self._stays_behind(error)
        if self._background:
            self._wake()

    @_in_its_folder
    def _take_in(self) -> None:
        try:
            with self._store.reading() as reader:
                behind = self.derived().behind(reader)
        except DamagedIndex:
            # Made again by who searches or keeps: a writer, whose write is stored, doesn't wait for that.
            return
        if behind > TAIL:
            self.derived().catch_up()

    @_in_its_folder
    def drop_newer(self) -> None:
        """Drop derived indices of a newer store. To be called before anything is written."""
        self.derived().drop_newer()

    def snapshots(self) -> Snapshots:
        """The derived indices that searches use."""
        with self.at_newest() as (view, _):
            return Snapshots(view.dense, view.index, view.lexical, view.residence)

    def current(self) -> Build | None:
        """What is noted of the dense index, which isn't opened for it; None where there is none, or it is damaged."""
        try:
            return self.derived().vectors.current()
        except (FileNotFoundError, DamagedIndex):
            return None

    @_in_its_folder
    def problems(self, reader: Reader) -> list[str]:
        """What `verify` finds wrong with the derived indices."""
        return self.derived().problems(reader)

    @_in_its_folder
    def settle(self) -> None:
        """Bring every derived index fully up to date, now. Raises StorageFailed, StorageFull."""
        self.derived().catch_up(tail=0, wait=True)
        self._indexer(cores()).work(self._check, fully=True)
        self._reside(fully=True)
        self._failure = None
        self._renew()

    @_in_its_folder
    def rebuild(self) -> None:
        """Write every derived index anew, while those that are there go on being used."""
        self._indexer(cores()).rebuild(self._check)
        self._renew()

    @_in_its_folder
    def mend(self, mended: int) -> None:
        """Build again what broke under an open view. mended: as it was before; of several the first does it."""
        with self._mending:
            if self.mended == mended:
                self.derived().rebuild_lexical()
                self._renew()
                self.mended += 1

    @property
    def troubles(self) -> list[str]:
        """What is amiss with the derived indices, though searches are answered rightly; a sentence for each."""
        found = [] if self._derived is None else list(self._derived.troubles.values())
        return found if self._failure is None else [*found, f"what is derived stays behind: {self._failure}"]

    def close(self) -> None:
        """Stop the threads; a build of an index that one is at is given up."""
        self._closed.set()
        self._due.set()
        for thread in (*self._openers, *([self._keeper] if self._keeper else [])):
            thread.join()
        if self._residence is not None:
            self._residence.close()
        self._held = None

    def _renew(self) -> None:
        with self._refreshing:
            self._held = None

    def _stamp(self) -> tuple[int, int] | None:
        """Changes with whatever any process makes current of the dense index, which is no new generation."""
        return self.derived().vectors.stamp()

    @_in_its_folder
    def _refresh(self, generation: int) -> None:
        """Make the view at least of this generation; of several threads that ask at once the first does it."""
        with self._refreshing:
            view = self._advance(generation)
        lags = view.lags or (self._residence is not None and self._residence.lags(view.dense))
        if (lags or self.troubles) and self._background:
            self._wake()

    def _advance(self, generation: int) -> View:
        """The view, at least of this generation. The caller holds the lock of refreshing."""
        stamp, held = self._stamp(), self._held
        if held is not None and held.view.generation >= generation and held.stamp == stamp:
            return held.view
        snapshots = self._snapshots(None if held is None else held.view)
        with self._store.reading() as reader:
            view = View.load(reader, snapshots) if held is None else _advanced(held.view, reader, snapshots)
        self._held = _Held(view, stamp)
        return view

    def _snapshots(self, older: View | None) -> Snapshots:
        """What the next view stands on. The store is read after it, so that it is at least as new.

        What an older view stands on, where with `background` something newer must be opened or made again first.
        """
        # Before the first vector there was no dimension, and nothing that the next view could stand on.
        if older is None or not older.dense.build.dimension or not self._background:
            return replace(self.derived().snapshots(), residence=self._resident())
        standing = Snapshots(older.dense, older.index, older.lexical, self._resident())
        newer = self.derived().at_hand()
        if newer is None:
            self._open_beside()
            return standing
        if older.index is not None and newer.dense.build.lacks_index:
            # It is about to be built: its end is a new stamp.
            return replace(standing, lexical=newer.lexical)
        return replace(newer, residence=standing.residence)

    def _open_beside(self) -> None:
        """Have a thread open, or make again, what is on the disk. The caller holds the lock of refreshing."""
        if not self._opening and not self._closed.is_set():
            self._opening = True
            opener = threading.Thread(target=self._open, name=f"opener of {self._folder.name}", daemon=True)
            self._openers = [*(one for one in self._openers if one.is_alive()), opener]
            opener.start()

    def _open(self) -> None:
        before = self._held
        try:
            self._switch()
        except CollectionReplaced:
            # Whoever opens it next has what is in its place.
            return
        except Exception as error:
            # Whatever it is: searches go on with what there is, and the keeper tries again.
            self._stays_behind(error)
        with self._refreshing:
            self._opening = False
        self._wake()
        # Searches that began before are at an end by then, so that none of them frees the index that was used until
        # now, which takes 50 ms (200,000 x 128, hnsw).
        self._closed.wait(LINGER_SECONDS)
        del before

    @_in_its_folder
    def _switch(self) -> None:
        """Open what is on the disk, and have a view of it take the place of the one that there is."""
        self.derived().snapshots()
        with self._refreshing:
            self._opening = False
            self._look_again()
            if self._held is not None:
                self._advance(self._held.view.generation)

    def _look_again(self) -> None:
        """Have the next search see what is on the disk. The caller holds the lock of refreshing."""
        if self._held is not None:
            self._held = self._held._replace(stamp=None)

    def _indexer(self, threads: int) -> Indexer:
        return Indexer(self.derived(), self._memory, threads, self._gpu())

    def _gpu(self) -> Owner | None:
        """Looked for at the first use: it takes FAISS, which what only reads or writes documents does without."""
        return None if self._gpu_memory == 0 else shared()

    def _resident(self) -> Residence | None:
        # A command that opens a collection for a moment would copy more than it searches.
        with self._deriving:
            if self._residence is None and self._background and (owner := self._gpu()) is not None:
                self._residence = Residence(owner, self._gpu_memory)
            return self._residence

    @property
    def gpu_rows(self) -> int:
        """How many of the mapped vectors are on a GPU."""
        return 0 if self._residence is None else self._residence.rows

    def _reside(self, *, fully: bool = False) -> None:
        """Bring what is on the GPU in step with the mapped vectors."""
        if (residence := self._resident()) is not None:
            residence.refresh(self.derived().snapshots().dense, fully=fully)

    def _check(self) -> None:
        if self._closed.is_set():
            raise Stopped

    def _wake(self) -> None:
        with self._deriving:
            if self._keeper is None and not self._closed.is_set():
                self._keeper = threading.Thread(target=self._keep, name=f"keeper of {self._folder.name}", daemon=True)
                self._keeper.start()
        self._due.set()

    def _keep(self) -> None:
        while not self._closed.is_set():
            self._due.wait(RETRY_SECONDS if self.troubles else None)
            self._closed.wait(PAUSE_SECONDS)
            self._due.clear()
            try:
                self._check()
                self._do_what_is_due()
                self._is_in_step()
            except (Stopped, CollectionReplaced):
                return
            except Exception as error:
                # Whatever it is: searches scan what isn't taken in, and it is tried again.
                self._stays_behind(error)

    @_in_its_folder
    def _do_what_is_due(self) -> None:
        self.derived().catch_up()
        self._indexer(max(1, cores() // 2)).work(self._check)
        self._reside()

    def _stays_behind(self, error: Exception) -> None:
        known = error if isinstance(error, PolyseekError) else None
        where = known and known.path
        log.warning("the derived indices of %s stay behind: %s: %s", where or self._folder, type(error).__name__, error)
        # Clients of the service read it.
        self._failure = str(known) if known else "something unforeseen went wrong, the log says what"

    def _is_in_step(self) -> None:
        if self._failure is not None:
            self._failure = None
            with self._refreshing:
                self._look_again()


def _advanced(view: View, reader: Reader, snapshots: Snapshots) -> View:
    """The next view; the same one where nothing is newer, with what it has found out."""
    stands = view.dense is snapshots.dense and view.index is snapshots.index and view.lexical is snapshots.lexical
    return view if stands and view.generation == reader.generation else view.advance(reader, snapshots)
