"""The keeper of a collection's derived indices: brings them up to date, rebuilds what is lost, one process at a time.

A derived index is a cache keyed by unit: it may lag behind the store, never contradict it. Whoever reads opens the
indices first and the store after them, so that the store is at least as new; units that an index lacks are a tail that
the reader scans by itself, units that the store lost are left out.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from retriever.dense import VectorFile, VectorSnapshot
from retriever.files import DamagedIndex, locked, replace_file
from retriever.lexical import LexicalIndex, LexicalSnapshot, LexicalUnit
from retriever.reader import Reader
from retriever.store import Store

# So many units a reader has beside the mapped vectors (1,000 x 512 are 2 MB, 0.1 ms a query); beyond it the keeper
# appends them.
TAIL = 1_000
# The vector file is rewritten once this share of its rows is dead (and more than TAIL are).
DEAD_SHARE = 0.3
SAMPLED_ROWS = 16

log = logging.getLogger(__name__)


class Derived:
    """Both derived indices of one collection: `dense/` and `lexical/`, and the lock `keeper.lock` beside them."""

    def __init__(self, folder: Path, store: Store, dimension: int) -> None:
        self.folder = folder
        self._store = store
        self._lock = folder / "keeper.lock"
        self._state = folder / "keeper.json"
        self._vectors = VectorFile(folder / "dense", dimension)

    def snapshots(self) -> tuple[VectorSnapshot, LexicalSnapshot]:
        """Both indices as they are; what is missing or damaged is rebuilt first."""
        try:
            return self._dense_checked(), self._lexical_checked().snapshot()
        except (FileNotFoundError, DamagedIndex):
            with locked(self._lock, wait=True):
                return self._repaired_dense(), self._repaired_lexical().snapshot()

    def catch_up(self) -> bool:
        """Take in what the store has and the indices lack; false where another process is the keeper right now."""
        with locked(self._lock, wait=False) as free:
            if free:
                self._catch_up_dense(self._repaired_dense())
                self._catch_up_lexical(self._repaired_lexical())
            return free

    def rebuild(self) -> None:
        """Write both indices anew, without dead rows, and forget the log of removals."""
        with locked(self._lock, wait=True):
            self._rebuild_dense()
            self._rebuild_lexical()
            with self._store.writing() as writer:
                writer.forget_removals()

    def problems(self, reader: Reader) -> list[str]:
        """What `verify` finds: live units that an index lacks below its watermark or holds otherwise, damaged files."""
        with locked(self._lock, wait=True):
            dense, index = self._repaired_dense(), self._repaired_lexical()
            damaged = [f"the lexical index's file {name} is damaged" for name in index.damaged_files()]
            return damaged or [*self._dense_problems(reader, dense), *self._lexical_problems(reader, index.snapshot())]

    def _dense_problems(self, reader: Reader, dense: VectorSnapshot) -> Iterator[str]:
        live = reader.unit_table()["key"]
        missing = np.setdiff1d(live[live <= dense.watermark], dense.keys, assume_unique=True)
        if len(missing):
            yield f"the dense index lacks {len(missing)} units"
            return
        for keys, vectors in reader.vector_batches(self._vectors.dimension):
            rows = np.searchsorted(dense.keys, keys[keys <= dense.watermark])
            if not np.array_equal(dense.vectors[rows], vectors[: len(rows)]):
                yield f"the dense index holds other vectors than the store between units {keys[0]} and {keys[-1]}"

    @staticmethod
    def _lexical_problems(reader: Reader, lexical: LexicalSnapshot) -> Iterator[str]:
        texts = np.fromiter((key for key, _, _ in reader.text_units(0)), dtype=np.int64)
        indexed = lexical.keys()
        missing = np.setdiff1d(texts[texts <= lexical.watermark], indexed)
        if len(missing):
            yield f"the lexical index lacks {len(missing)} units"
        if len(indexed) != len(np.unique(indexed)):
            yield "the lexical index holds units twice"

    # -- dense

    def _dense_checked(self) -> VectorSnapshot:
        """The mapped file, held against the store: a restored older store or a flipped file shows here."""
        snapshot = self._vectors.snapshot()
        if not len(snapshot.keys):
            return snapshot
        with self._store.reading() as reader:
            if snapshot.watermark > reader.last_unit():
                raise DamagedIndex("the dense index is newer than the store")
            places = np.linspace(0, len(snapshot.keys) - 1, SAMPLED_ROWS, dtype=np.int64)
            sample = dict(zip(snapshot.keys[places].tolist(), places.tolist(), strict=True))
            for key, vector in reader.existing_vectors(list(sample)).items():
                if not np.array_equal(snapshot.vectors[sample[key]], vector):
                    raise DamagedIndex(f"the dense index holds another vector than the store for unit {key}")
        return snapshot

    def _repaired_dense(self) -> VectorSnapshot:
        try:
            return self._dense_checked()
        except (FileNotFoundError, DamagedIndex) as reason:
            self._rebuild_dense()
            log.info("rebuilt the dense index of %s: %s", self.folder.name, reason)
            return self._vectors.snapshot()

    def _rebuild_dense(self) -> None:
        with self._store.reading() as reader:
            self._vectors.rebuild(reader.vector_batches(self._vectors.dimension))

    def _catch_up_dense(self, snapshot: VectorSnapshot) -> None:
        with self._store.reading() as reader:
            live = reader.count()[1]
            tail = reader.count_units(after=snapshot.watermark)
            dead = len(snapshot.keys) - (live - tail)
            if dead > max(TAIL, DEAD_SHARE * len(snapshot.keys)):
                self._vectors.rebuild(reader.vector_batches(self._vectors.dimension))
            elif tail > TAIL:
                self._vectors.append(reader.vector_batches(self._vectors.dimension, after=snapshot.watermark))

    # -- lexical

    def _lexical_checked(self) -> LexicalIndex:
        index = LexicalIndex.open(self.folder / "lexical")
        with self._store.reading() as reader:
            if index.snapshot().watermark > reader.last_unit():
                raise DamagedIndex("the lexical index is newer than the store")
        return index

    def _repaired_lexical(self) -> LexicalIndex:
        try:
            return self._lexical_checked()
        except (FileNotFoundError, DamagedIndex) as reason:
            index = self._rebuild_lexical()
            log.info("rebuilt the lexical index of %s: %s", self.folder.name, reason)
            return index

    def _rebuild_lexical(self) -> LexicalIndex:
        index = LexicalIndex.create(self.folder / "lexical")
        with self._store.reading() as reader:
            index.update(lexical_units(reader, after=0), remove=())
            self._write_state(reader.generation)
        return index

    def _catch_up_lexical(self, index: LexicalIndex) -> None:
        snapshot = index.snapshot()
        with self._store.reading() as reader:
            since = self._read_state()
            if since == reader.generation:
                return
            index.update(lexical_units(reader, after=snapshot.watermark), self._gone(reader, snapshot, since))
            self._write_state(reader.generation)

    @staticmethod
    def _gone(reader: Reader, snapshot: LexicalSnapshot, since: int) -> NDArray[np.int64]:
        """Units to take out of the lexical index; found by comparison where the log of removals is too short."""
        removed = reader.removed(since)
        if removed is None:
            removed = np.setdiff1d(snapshot.keys(), np.asarray(reader.unit_table()["key"], dtype=np.int64))
        return removed[removed <= snapshot.watermark]

    def _read_state(self) -> int:
        """The generation that the lexical index has taken in, 0 where that isn't known: then removals are repeated."""
        try:
            return int(orjson.loads(self._state.read_bytes())["lexical_generation"])
        except (FileNotFoundError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return 0

    def _write_state(self, generation: int) -> None:
        replace_file(self._state, orjson.dumps({"lexical_generation": generation}))


def lexical_units(reader: Reader, *, after: int) -> Iterator[LexicalUnit]:
    """The passages and captions above a key, as the lexical index takes them."""
    return (LexicalUnit(key, text, language) for key, language, text in reader.text_units(after))
