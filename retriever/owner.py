"""The one thread that talks to a GPU, and what waits for it.

A device's resources in FAISS serve one thread at a time (its wiki, "Threads and asynchronous calls"). Searches that
wait together for the same vectors and as many results are one call; what comes while it runs is the next one. No search
waits for anything long: while vectors are copied or an index is trained, whoever asks is told to go another way.

Axes: Q queries, N rows, D dimensions, K results.
"""

import atexit
import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from retriever.dense import Queries, Rows
from retriever.gpu import HEADROOM, SHARE, Cuda, Device, GpuFailed, gpus, queries_at_once, resident_bytes

T = TypeVar("T")
Vectors = NDArray[np.float32]

# The end of the process waits so long for what the device is at.
PATIENCE_SECONDS = 10.0

log = logging.getLogger(__name__)


class Matrix:
    """Vectors on a device. `rows` may be read by anyone; the index belongs to the owner's thread."""

    def __init__(self, index: Any, dimension: int) -> None:  # noqa: ANN401 - FAISS has no types
        self.index = index
        self.dimension = dimension
        self.rows = 0

    def take(self, vectors: Vectors) -> None:
        """Add the rows behind those that it holds."""
        self.index.add(vectors[self.rows :])
        self.rows = len(vectors)

    def empty(self) -> None:
        """Give the memory of the rows back, to be filled again."""
        self.index.reset()
        self.rows = 0

    def drop(self) -> None:
        """Give the memory back."""
        self.index, self.rows = None, 0

    @property
    def bytes(self) -> int:
        """What it takes on the device."""
        return resident_bytes(self.rows, self.dimension)


@dataclass(frozen=True, eq=False)
class _Search:
    matrix: Matrix
    rows: int
    queries: Queries
    k: int
    answer: "Future[Rows | None]" = field(default_factory=Future)

    def alike(self, other: "_Search | _Job") -> bool:
        return isinstance(other, _Search) and (other.matrix, other.rows, other.k) == (self.matrix, self.rows, self.k)


@dataclass(frozen=True, eq=False)
class _Job:
    work: Callable[[Device], Any]
    answer: "Future[Any]" = field(default_factory=Future)


class Owner:
    """The thread and its queue. Safe to use from several threads; of no use in a process forked from its own."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._process = os.getpid()
        self._waiting: deque[_Search | _Job] = deque()
        self._changed = threading.Condition()
        # Jobs that wait or run.
        self._long = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        # Held here as well, so that none is freed by another thread.
        self._matrices: set[Matrix] = set()

    def search(self, matrix: Matrix, rows: int, queries: Queries, k: int) -> Rows | None:
        """The best k rows of each query by inner product, int64 (Q, K), -1 where there are no more.

        None where the owner is at something long, or the matrix isn't (or no longer) of so many rows.
        """
        with self._changed:
            if self._long or not self.serves or matrix.rows != rows or rows == 0:
                return None
            asked = _Search(matrix, rows, queries, k)
            self._put(asked)
        return asked.answer.result()

    def do(self, work: Callable[[Device], T]) -> T:
        """Run something long in the thread that owns the device. Raises GpuFailed."""
        job = _Job(work)
        with self._changed:
            if not self.serves:
                raise GpuFailed("the GPU was closed")
            self._long += 1
            self._put(job)
        try:
            result: T = job.answer.result()
        finally:
            with self._changed:
                self._long -= 1
        return result

    def load(self, vectors: Vectors, limit: int | None) -> Matrix:
        """Copy vectors (N, D) to the device. Raises GpuFailed where it hasn't the room.

        limit: bytes that all matrices may take together, None for a share of what is free.
        """

        def work(device: Device) -> Matrix:
            matrix = Matrix(device.matrix(vectors.shape[1]), vectors.shape[1])
            self._matrices.add(matrix)
            self._take(matrix, vectors, limit)
            return matrix

        return self.do(work)

    def extend(self, matrix: Matrix, vectors: Vectors, limit: int | None) -> None:
        """Copy the rows that are behind what a matrix holds. Raises GpuFailed, and then the matrix is gone."""
        self.do(lambda _: self._take(matrix, vectors, limit))

    def release(self, matrix: Matrix) -> None:
        """Give a matrix's memory back; searches that wait for it go another way."""
        # Where it was closed meanwhile, everything was given back.
        with contextlib.suppress(GpuFailed):
            self.do(lambda _: self._drop(matrix))

    def close(self) -> None:
        """Give everything back and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None and self._process == os.getpid():
            self._thread.join(PATIENCE_SECONDS)

    @property
    def serves(self) -> bool:
        """Whether it can be asked: it wasn't closed, and this is its process."""
        return not self._closed and self._process == os.getpid()

    def _put(self, asked: _Search | _Job) -> None:
        self._waiting.append(asked)
        self._changed.notify()
        if self._thread is None:
            # A daemon: the end of the process doesn't wait for it, but for `close`.
            self._thread = threading.Thread(target=self._work, name="owner of the GPU", daemon=True)
            self._thread.start()

    # -- in the thread

    def _work(self) -> None:
        while asked := self._next():
            if isinstance(asked, _Job):
                self._perform(asked)
            else:
                self._answer(asked)
        for left in self._waiting:
            if isinstance(left, _Job):
                left.answer.set_exception(GpuFailed("the GPU was closed"))
            else:
                left.answer.set_result(None)
        for matrix in list(self._matrices):
            self._drop(matrix)
        self._device.close()

    def _next(self) -> _Job | list[_Search] | None:
        """What to do next: a job, or the searches that one call answers; None when it was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            first = self._waiting.popleft()
            return first if isinstance(first, _Job) else self._joined(first)

    def _joined(self, first: _Search) -> list[_Search]:
        room = queries_at_once(first.rows, first.matrix.dimension, first.k) - len(first.queries)
        joined, others = [first], deque[_Search | _Job]()
        for asked in self._waiting:
            if isinstance(asked, _Search) and first.alike(asked) and len(asked.queries) <= room:
                joined.append(asked)
                room -= len(asked.queries)
            else:
                others.append(asked)
        self._waiting = others
        return joined

    def _perform(self, job: _Job) -> None:
        try:
            result = job.work(self._device)
        except (RuntimeError, MemoryError, GpuFailed) as error:
            # Not the error itself, whose frames hold what must be freed in this thread.
            failed: BaseException = GpuFailed(str(error).strip())
        except BaseException as error:
            # It belongs to whoever waits.
            failed = error
        else:
            job.answer.set_result(result)
            return
        job.answer.set_exception(failed)

    def _answer(self, searches: list[_Search]) -> None:
        first = searches[0]
        found: Rows | None = None
        try:
            # It may have been dropped or grown while they waited.
            if first.matrix.rows == first.rows:
                found = self._found(first.matrix, np.concatenate([one.queries for one in searches]), first.k)
        except (RuntimeError, MemoryError) as error:
            log.warning("the CPU searches from here on, the GPU failed: %s", str(error).strip())
            self._drop(first.matrix)
        except BaseException as error:
            for one in searches:
                one.answer.set_exception(error)
            return
        start = 0
        for one in searches:
            one.answer.set_result(None if found is None else found[start : start + len(one.queries)])
            start += len(one.queries)

    @staticmethod
    def _found(matrix: Matrix, queries: Queries, k: int) -> Rows:
        step = queries_at_once(matrix.rows, matrix.dimension, k)
        parts = [matrix.index.search(queries[start : start + step], k)[1] for start in range(0, len(queries), step)]
        return np.concatenate(parts).astype(np.int64, copy=False)

    def _take(self, matrix: Matrix, vectors: Vectors, limit: int | None) -> None:
        """Make a matrix hold all of these rows; where that fails it is gone."""
        try:
            self._make_room(matrix, resident_bytes(*vectors.shape), limit)
            matrix.take(vectors)
        except BaseException:
            self._drop(matrix)
            raise

    def _make_room(self, matrix: Matrix, needed: int, limit: int | None) -> None:
        """See that a matrix may grow to so many bytes, and that there is room for them. Raises GpuFailed."""
        held, free = matrix.bytes, self._device.free()
        others = sum(one.bytes for one in self._matrices) - held
        if limit is None:
            limit = int(SHARE * (free + held + others))
        if others + needed > limit:
            raise GpuFailed(f"{needed:,} bytes of vectors beside {others:,} are more than the {limit:,} allowed")
        if held and needed + HEADROOM > free:
            # FAISS grows an index by copying it; where there is no room for two it is filled anew.
            matrix.empty()
            free = self._device.free()
        if needed + HEADROOM > free:
            raise GpuFailed(f"{needed:,} bytes of vectors don't fit into the {free:,} that are free")

    def _drop(self, matrix: Matrix) -> None:
        matrix.drop()
        self._matrices.discard(matrix)


_shared: list[Owner] = []
_sharing = threading.Lock()


def shared() -> Owner | None:
    """The owner of this process's GPU; None where there is none."""
    with _sharing:
        if not _shared or not _shared[0].serves:
            if not gpus():
                return None
            _shared[:] = [Owner(Cuda())]
            atexit.register(_shared[0].close)
        return _shared[0]
