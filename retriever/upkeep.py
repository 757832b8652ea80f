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
from retriever.errors import CollectionReplaced, StorageFailed
from retriever.files import DamagedIndex, storage_errors
from retriever.indexer import Indexer
from retriever.indexing import Stopped
from retriever.machine import cores
from retriever.owner import Owner, shared
from retriever.reader import Reader
from retriever.residence import Residence
from retriever.store import Store
from retriever.view import View

# Writes that follow each other within this time are taken in together.
PAUSE_SECONDS = 0.05

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
    """A view, and the stamp of the dense index when it was loaded, or before."""

    view: View
    stamp: tuple[int, int] | None


class Upkeep:
    """Views of one collection and the care for what they stand on; safe to use from several threads.

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
        self._due = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

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
        with self._store.reading() as reader:
            behind = self.derived().behind(reader)
        if behind > TAIL:
            self.derived().catch_up()

    @_in_its_folder
    def drop_newer(self) -> None:
        """Drop derived indices of a newer store. To be called before anything is written."""
        self.derived().drop_newer()

    @_in_its_folder
    def snapshots(self) -> Snapshots:
        """The derived indices as they are."""
        return self.derived().snapshots()

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
        self._renew()

    @_in_its_folder
    def rebuild(self) -> None:
        """Write every derived index anew, while those that are there go on being used."""
        self._indexer(cores()).rebuild(self._check)
        self._renew()

    @_in_its_folder
    def mend(self) -> None:
        """Build again what broke under an open view."""
        self.derived().rebuild_lexical()
        self._renew()

    def close(self) -> None:
        """Stop the thread; a build of an index that it is at is given up."""
        self._closed.set()
        self._due.set()
        if self._thread is not None:
            self._thread.join()
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
            stamp, held = self._stamp(), self._held
            if held is not None and held.view.generation >= generation and held.stamp == stamp:
                return
            view = self._loaded_view()
            self._held = _Held(view, stamp)
        lags = view.lags or (self._residence is not None and self._residence.lags(view.dense))
        if lags and self._background:
            self._wake()

    def _loaded_view(self) -> View:
        """The newest generation: the derived indices are opened first, so that the store is at least as new."""
        snapshots = replace(self.derived().snapshots(), residence=self._resident())
        held = self._held
        with self._store.reading() as reader:
            return View.load(reader, snapshots) if held is None else held.view.advance(reader, snapshots)

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
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._keep, name=f"keeper of {self._folder.name}", daemon=True)
                self._thread.start()
        self._due.set()

    def _keep(self) -> None:
        while not self._closed.is_set():
            self._due.wait()
            self._closed.wait(PAUSE_SECONDS)
            self._due.clear()
            try:
                self._check()
                self.derived().catch_up()
                self._indexer(max(1, cores() // 2)).work(self._check)
                self._reside()
            except Stopped:
                return
            except Exception as error:
                # Whatever it is: searches scan what isn't taken in, and the next write tries again.
                self._stays_behind(error)

    def _stays_behind(self, error: Exception) -> None:
        log.warning("the derived indices of %s stay behind: %s: %s", self._folder.name, type(error).__name__, error)
