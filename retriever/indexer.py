"""The long work on the dense side: FAISS indices built, grown and built anew, the columns written without dead rows.

One process at a time does it, by `indexer.lock`; `keeper.lock` is only taken to switch over, so that writes and
searches go on beside. Where the columns were written anew meanwhile, the work is void, never wrong.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever import kinds
from retriever.approximate import IndexEntry
from retriever.derived import TAIL, Derived, with_index
from retriever.files import locked
from retriever.indexing import Check, Rows, Trial, build_index, checksum_of, extend_index
from retriever.machine import memory_available
from retriever.owner import Owner
from retriever.reader import Reader
from retriever.rows import RowSet
from retriever.vectors import VectorSnapshot, live_rows

# The columns are written anew once this share of their rows is dead (and more than TAIL are).
DEAD_SHARE = 0.3
# So many rows, and such a share of the index's, are scanned beside it before it is extended: 10,000 x 512 take 1.3 ms.
SCANNED = 10_000
SCANNED_SHARE = 0.02
# An index is planned and trained anew once it has grown by this factor.
GROWN = 2.0
# Of the memory that there is, a build plans with so much: the rest is for the cache of the mapped files.
MEMORY_SHARE = 0.5
# Lengths of vectors count as uneven where their logarithms deviate by more than this; so many vectors are looked at.
UNEVEN, LOOKED_AT = 0.05, 10_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Indexer:
    """memory: bytes that building an index may take, None for a share of what is available. threads, gpu: what may work
    on it.
    """

    derived: Derived
    memory: int | None
    threads: int
    gpu: Owner | None = None

    def work(self, check: Check, *, fully: bool = False) -> bool:
        """Do what is due; false where another process is at it. Raises Stopped, OSError, where nothing was changed.

        fully: wait for the other process, and leave no rows to scan.
        """
        with locked(self.derived.folder / "indexer.lock", wait=fully) as free:
            step = self._due(check, fully=fully) if free else None
            if step is not None or (free and fully):
                with self._swept():
                    if step is not None:
                        step()
            return free

    def rebuild(self, check: Check) -> None:
        """Write the lexical index and the columns without what is gone, and build the index for these."""
        with locked(self.derived.folder / "indexer.lock", wait=True), self._swept():
            self.derived.renew_lexical()
            self._write_anew(check)

    @contextlib.contextmanager
    def _swept(self) -> Iterator[None]:
        """Leave no files behind that don't count, however the block ends."""
        try:
            yield
        finally:
            self.derived.sweep()

    def _due(self, check: Check, *, fully: bool) -> Callable[[], None] | None:
        """What is to be done, None for nothing."""
        snapshot = self.derived.snapshots().dense
        entry = None if snapshot.build.index is None else IndexEntry.of(snapshot.build.index)
        rows = self._rows(snapshot)
        count, alive = len(rows.vectors), rows.live.count
        if count - alive > max(TAIL, DEAD_SHARE * count):
            return lambda: self._write_anew(check)
        if count > GROWN * snapshot.build.planned:
            return lambda: self._switch(rows, self._planned(rows, check), planned=count)
        if entry is not None and self._lags(entry, count, fully=fully):
            return lambda: self._extend(rows, entry, check)
        return None

    def _extend(self, rows: Rows, entry: IndexEntry, check: Check) -> None:
        with self.derived.store.reading() as reader:
            trial, recall = self._trial(rows, reader), reader.settings().recall
        entry = extend_index(entry, rows, trial, recall, check)
        self._switch(rows, entry, planned=rows.snapshot.build.planned)

    def _lags(self, entry: IndexEntry, count: int, *, fully: bool) -> bool:
        """Whether rows are to be added, or it was tuned to other queries than there are now."""
        with self.derived.store.reading() as reader:
            _, queries = reader.queries()
        scanned = 0 if fully else SCANNED + SCANNED_SHARE * entry.rows
        return count - entry.rows > scanned or entry.trial != checksum_of(queries)

    def _write_anew(self, check: Check) -> None:
        derived, dimension = self.derived, self.derived.vectors.dimension
        with derived.store.reading() as reader:
            build = derived.vectors.written(reader.unit_batches(dimension), reader.generation)
        entry = self._planned(self._rows(derived.vectors.mapped(build)), check)
        planned = build.rows
        with locked(derived.lock, wait=True):
            with derived.store.reading() as reader:
                build = derived.vectors.extended(build, reader.unit_batches(dimension, after=build.last))
            derived.vectors.commit(with_index(build, entry, planned))
        with derived.store.writing() as writer:
            writer.forget_removals(build.since)

    def _switch(self, rows: Rows, entry: IndexEntry | None, *, planned: int) -> None:
        """Note an index, if the columns that it covers are still the current ones."""
        with locked(self.derived.lock, wait=True):
            current = self.derived.vectors.current()
            if current.build == rows.snapshot.build.build:
                self.derived.vectors.commit(with_index(current, entry, planned))

    def _planned(self, rows: Rows, check: Check) -> IndexEntry | None:
        """An index of the first kind that fits and, where the choice is ours, reaches the recall asked for."""
        with self.derived.store.reading() as reader:
            settings, last = reader.settings(), reader.last_unit()
            plans = kinds.plans(
                settings.kind, len(rows.vectors), self.derived.vectors.dimension,
                memory=self._memory(), gone=1 - rows.live.count / max(last, 1),
                uneven=settings.similarity == "dot" and _uneven(rows.vectors),
            )  # fmt: skip
            trial = None if plans[0].is_exact else self._trial(rows, reader)
        for plan in plans:
            log.info("dense index of %s: %s", self.derived.folder.name, plan)
            if plan.is_exact or trial is None:
                return None
            try:
                entry = build_index(plan, rows, trial, settings.recall, check)
            except (RuntimeError, MemoryError) as error:
                # FAISS refuses: too few rows for the lists that were asked for, no memory.
                log.warning("a dense index %s of %s can't be built: %s", plan, self.derived.folder.name, error)
                continue
            if entry.recall >= settings.recall or settings.kind != "auto":
                return entry
            log.info("it reaches a recall of %.3f, not %.3f", entry.recall, settings.recall)
        return None

    def _memory(self) -> int:
        return int(memory_available() * MEMORY_SHARE) if self.memory is None else self.memory

    def _trial(self, rows: Rows, reader: Reader) -> Trial:
        _, queries = reader.queries()
        return Trial.make(rows, queries)

    def _rows(self, snapshot: VectorSnapshot) -> Rows:
        with self.derived.store.reading() as reader:
            live = RowSet(live_rows(snapshot, reader))
        return Rows(self.derived.vectors.folder, snapshot, live, self.threads, self.gpu)


def _uneven(vectors: NDArray[np.float32]) -> bool:
    lengths = np.linalg.norm(vectors[:: max(1, len(vectors) // LOOKED_AT)], axis=1)
    return bool(np.log(lengths[lengths > 0]).std() > UNEVEN) if lengths.any() else False
