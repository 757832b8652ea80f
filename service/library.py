"""The collections that the service holds open, and the threads in which they are called.

Collections block (SQLite, encoders, FAISS), so every call on one runs in a worker thread. Writes have threads of their
own: long puts wait for each other, and never keep a search waiting for a thread.
A collection is opened at its first use and stays open. One that was dropped, migrated, or dropped and made again, by
whatever process, is noticed by its file: an open file keeps its inode, so that a new file can't have the same one.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import ParamSpec, TypeVar

from prometheus_client import Counter

from retriever.collection import Collection
from retriever.errors import CollectionReplaced, GenerationNotReached, PolyseekError, UnknownCollection
from retriever.root import Root
from retriever.store import FILE_NAME
from service.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")
Identity = tuple[int, int]

POLL_SECONDS = 0.02
# A collection may be replaced again while its successor is opened.
TRIES = 10
# One write commits while another encodes, which takes all cores.
WRITERS = 4


@dataclass(slots=True)
class _Held:
    """An open collection, how many calls are using it, and whether it is to be closed after the last of them."""

    collection: Collection
    identity: Identity
    users: int = 0
    retired: bool = False


class Library:
    """Open collections by name or alias. Thread-safe; `close` it when nothing uses it any more."""

    def __init__(self, root: Root, *, threads: int, queue: int, dropped: Counter) -> None:
        """Threads that read, and calls that may wait for one. dropped: as for `Threads`."""
        self.root = root
        self.reads = Threads(threads, "read", queue=queue, dropped=dropped)
        self.writes = Threads(min(threads, WRITERS), "write", queue=queue, dropped=dropped)
        # Whoever waits for a model to be loaded holds no thread that a search could use.
        self.loads = Threads(1, "load", queue=queue, dropped=dropped)
        self._held: dict[str, _Held] = {}
        self._opening = Lock()
        self._lock = Lock()

    async def call(self, work: Callable[P, T], *args: P.args, **members: P.kwargs) -> T:
        """What `work`, which reads, returns from a worker thread. Raises Overloaded."""
        return await self.reads.run(partial(work, *args, **members))

    async def use(self, name: str, work: Callable[[Collection], T], deadline: float = math.inf) -> T:
        """What `work`, which reads, returns for a collection, from a worker thread; errors as for `using`.

        deadline: as for `Threads.run`. Raises Overloaded.
        """
        return await self.reads.run(partial(self.using, name, work), deadline)

    async def change(self, name: str, work: Callable[[Collection], T]) -> T:
        """The same for work that writes."""
        return await self.writes.run(partial(self.using, name, work))

    def using(self, name: str, work: Callable[[Collection], T]) -> T:
        """What `work` returns for a collection. Raises UnknownCollection, InvalidName.

        Where the collection is replaced meanwhile (a migration; an alias moved, and its old collection dropped), it
        works once more, on the new one: what didn't end in the old one didn't count there.
        """
        for _ in range(TRIES - 1):
            try:
                with self.lend(name) as collection:
                    return work(collection)
            except CollectionReplaced:
                continue
            except UnknownCollection:
                if name not in self.root.aliases():
                    raise
        with self.lend(name) as collection:
            return work(collection)

    async def reach(self, name: str, generation: int, deadline: float) -> None:
        """Wait until a collection has this generation. Raises GenerationNotReached at the deadline (time.monotonic()).

        The wait holds no worker thread: the write that is waited for may need it.
        """
        newest = 0
        try:
            # A little before the deadline of all the rest, which would be another error.
            async with asyncio.timeout(deadline - time.monotonic() - POLL_SECONDS):
                while (newest := await self.use(name, _generation, deadline)) < generation:
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise GenerationNotReached(
                f"generation {generation} of {name} was not reached in time, the newest is {newest}",
                hint="pass on the generation that the write answered, or a longer timeout",
            ) from None

    @contextmanager
    def lend(self, name: str) -> Iterator[Collection]:
        """A collection by name or alias, which stays open for the length of the block. Blocks while it is opened."""
        held = self._acquire(self.root.resolve(name))
        try:
            yield held.collection
        finally:
            self._release(held)

    @contextmanager
    def lend_open(self, name: str) -> Iterator[Collection | None]:
        """A collection as `lend` gives it where it is open already, else None: nothing is opened, and nothing waits."""
        held = self._current(name)
        try:
            yield None if held is None else held.collection
        finally:
            if held is not None:
                self._release(held)

    def encoders(self) -> list[str]:
        """The encoders that collections were built with; one that can't be opened has none to offer."""
        names = []
        for collection in self.root.names():
            with suppress(PolyseekError):
                names.append(self.using(collection, lambda opened: opened.settings.encoder))
        return [name for name in names if name is not None]

    def drop(self, name: str) -> None:
        """Drop a collection; calls that are using it end undisturbed. Raises UnknownCollection."""
        self.root.drop(name)
        self._retire(name)

    def close(self) -> None:
        """Begin no call any more, and close every collection after the calls that use it."""
        self.reads.close()
        self.writes.close()
        self.loads.close()
        for name in list(self._held):
            self._retire(name)

    def _acquire(self, name: str) -> _Held:
        held = self._current(name)
        if held is None:
            with self._opening:  # two threads must not open the same one; a lock for each name would be kept for ever
                held = self._current(name) or self._open(name)
        return held

    def _current(self, name: str) -> _Held | None:
        """The held collection, with one more user, if it is still the one on disk."""
        with self._lock:
            held = self._held.get(name)
            if held is None or held.identity != self._identity(name):
                return None
            held.users += 1
            return held

    def _open(self, name: str) -> _Held:
        self._retire(name)
        collection = self.root.open(name)
        held = _Held(collection, collection.identity, users=1)
        with self._lock:
            self._held[name] = held
        return held

    def _release(self, held: _Held) -> None:
        with self._lock:
            held.users -= 1
            last = held.retired and held.users == 0
        if last:
            held.collection.close()

    def _retire(self, name: str) -> None:
        with self._lock:
            held = self._held.pop(name, None)
            if held is None:
                return
            held.retired = True
            idle = held.users == 0
        if idle:
            held.collection.close()

    def _identity(self, name: str) -> Identity | None:
        """Which file a collection is, None where there is none. The name is one that `Root` took."""
        try:
            status = (self.root.path / name / FILE_NAME).stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino


def _generation(collection: Collection) -> int:
    return collection.generation
