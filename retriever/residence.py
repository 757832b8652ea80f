"""What of one collection lies on a GPU: a copy of the mapped vectors of its current build, kept in step with them.

Axes: Q queries, N rows, D dimensions, K results.
"""

import logging
import threading
from dataclasses import dataclass

import numpy as np

from retriever.dense import Queries, Rows, first_allowed
from retriever.gpu import Ask, GpuFailed, obstacle
from retriever.owner import Matrix, Owner
from retriever.rows import RowSet
from retriever.vectors import VectorSnapshot

# Fewer rows are compared on the CPU always (10,000 x 512: 1.3 ms a query).
LEAST = 10_000
# So many rows behind those on the device are scanned by the CPU before they are copied too.
BEHIND = 10_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Held:
    """The first `rows` rows of a build."""

    build: str
    rows: int
    matrix: Matrix


class Residence:
    """Safe to use from several threads. limit: bytes that vectors may take on the device, of all collections together;
    None for a share of what is free.
    """

    def __init__(self, owner: Owner, limit: int | None) -> None:
        self._owner = owner
        self._limit = limit
        self._held: _Held | None = None
        self._lock = threading.Lock()
        self._refused: tuple[str, str] | None = None

    def search(self, dense: VectorSnapshot, queries: Queries, count: int, allowed: RowSet) -> tuple[Rows, int] | None:
        """The best `count` allowed rows of each query (Q, D) among the first of these rows, and how many those are.

        int64 (Q, K), -1 where there are no more. None where the device can't answer.
        """
        held = self._held
        if held is None or held.build != dense.build.build or held.rows > len(dense.vectors):
            return None
        dropped = held.rows - allowed.count_before(held.rows)
        if obstacle(Ask(count, dropped)) is not None:
            return None
        k = min(count + dropped, held.rows)
        found = self._owner.search(held.matrix, held.rows, np.ascontiguousarray(queries), k)
        if found is None:
            return None
        return (first_allowed(found, allowed.mask, count)[0] if dropped else found), held.rows

    @property
    def rows(self) -> int:
        """How many rows are on the device."""
        held = self._held
        return 0 if held is None else held.matrix.rows

    def lags(self, dense: VectorSnapshot) -> bool:
        """Whether `refresh` would do something."""
        if self._refused is not None and self._refused[0] == dense.build.build:
            return False
        held = self._held
        if held is None:
            return len(dense.vectors) >= LEAST
        return held.build != dense.build.build or self._behind(held, dense) > BEHIND

    def refresh(self, dense: VectorSnapshot, *, fully: bool = False) -> None:
        """Copy what isn't on the device yet, or say in the log why not. fully: however little it is."""
        with self._lock:
            try:
                self._refresh(dense, fully=fully)
                self._refused = None
            except GpuFailed as error:
                self._held = None
                refused = (dense.build.build, str(error))
                if refused != self._refused:
                    log.warning("the CPU searches these vectors, not the GPU: %s", error)
                self._refused = refused

    def close(self) -> None:
        """Give the memory on the device back."""
        with self._lock:
            self._release()

    def _refresh(self, dense: VectorSnapshot, *, fully: bool) -> None:
        held, build, rows = self._held, dense.build.build, len(dense.vectors)
        if held is not None and (held.build != build or held.matrix.rows == 0):
            self._release()
            held = None
        if held is None:
            if rows >= LEAST:
                self._held = _Held(build, rows, self._owner.load(dense.vectors, self._limit))
        elif self._behind(held, dense) > (0 if fully else BEHIND):
            self._owner.extend(held.matrix, dense.vectors, self._limit)
            self._held = _Held(build, rows, held.matrix)

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._owner.release(held.matrix)

    @staticmethod
    def _behind(held: _Held, dense: VectorSnapshot) -> int:
        return len(dense.vectors) - held.matrix.rows
