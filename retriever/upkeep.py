"""The newest view of an open collection, and the thread that keeps its derived indices in step behind it."""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from retriever.derived import TAIL, Derived, Snapshots
from retriever.errors import CollectionReplaced, CorruptCollection, PolyseekError
from retriever.files import DamagedIndex
from retriever.indexer import Indexer
from retriever.indexing import Stopped
from retriever.reader import Reader
from retriever.store import FILE_NAME, Store
from retriever.view import View

# Writes that follow each other within this time are taken in together.
PAUSE_SECONDS = 0.05

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


def _in_its_folder(method: "Callable[Concatenate[Upkeep, P], T]") -> "Callable[Concatenate[Upkeep, P], T]":
    """A file that isn't there, of a folder that was dropped or replaced, is CollectionReplaced."""

    @functools.wraps(method)
    def checked(self: "Upkeep", /, *args: P.args, **members: P.kwargs) -> T:
        try:
            return method(self, *args, **members)
        except FileNotFoundError:
            self._store.check_identity()
            raise

    return checked


class Upkeep:
    """Views of one collection and the care for what they stand on; safe to use from several threads.

    memory: bytes that building an index may take, None for a share of what is available. background: whether a thread
    takes in what was written and builds indices; without it `settle` does.
    """

    def __init__(self, folder: Path, store: Store, *, memory: int | None, background: bool) -> None:
        self._folder = folder
        self._store = store
        self._memory = memory
        self._background = background
        self._view: View | None = None
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
                view = self._view
                if view is not None and view.generation == reader.generation:
                    yield view, reader
                    return
                newest = reader.generation
            self._refresh(newest)

    def written(self) -> None:
        """Something was written: a little is taken in behind the writer's back, much before he goes on."""
        # It stays written where the folder was replaced since: whoever replaced it has it.
        with contextlib.suppress(CollectionReplaced):
            self._take_in()
        if self._background:
            self._wake()

    @_in_its_folder
    def _take_in(self) -> None:
        with self._store.reading() as reader:
            behind = self.derived().behind(reader)
        if behind > TAIL:
            self.derived().catch_up()

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
        """Bring every derived index fully up to date, now. Raises OSError."""
        self.derived().catch_up(tail=0, wait=True)
        self._indexer().work(self._check, fully=True)
        self._renew()

    @_in_its_folder
    def rebuild(self) -> None:
        """Write every derived index anew."""
        self.derived().rebuild_lexical()
        self._indexer().rebuild(self._check)
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
        self._view = None

    def _renew(self) -> None:
        with self._refreshing:
            self._view = None

    @_in_its_folder
    def _refresh(self, generation: int) -> None:
        """Make the view at least of this generation; of several threads that ask at once the first does it."""
        with self._refreshing:
            if self._view is not None and self._view.generation >= generation:
                return
            self._view = view = self._loaded_view()
        if view.lags and self._background:
            self._wake()

    def _loaded_view(self) -> View:
        """The newest generation: the derived indices are opened first, so that the store is at least as new."""
        for _ in range(2):
            snapshots = self.derived().snapshots()
            try:
                with self._store.reading() as reader:
                    old = self._view
                    return View.load(reader, snapshots) if old is None else old.advance(reader, snapshots)
            except DamagedIndex:
                self.derived().rebuild_lexical()
        raise CorruptCollection(
            f"the derived indices of {self._folder.name} can't be rebuilt from {FILE_NAME}",
            hint=f"check it: polyseek index verify {self._folder.name}",
        )

    def _indexer(self) -> Indexer:
        return Indexer(self.derived(), self._memory)

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
                self._indexer().work(self._check)
            except Stopped:
                return
            except (PolyseekError, DamagedIndex, OSError) as error:
                # Searches scan what isn't taken in; the next write tries again.
                log.warning("the derived indices of %s stay behind: %s", self._folder.name, error)
