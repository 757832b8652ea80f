"""The keeper of a collection's derived indices: brings them up to date, rebuilds what is lost, one process at a time.

A derived index is a cache keyed by unit: it may lag behind the store, never contradict it. Whoever reads opens the
indices first and the store after them, so that the store is at least as new; units that an index lacks are a tail that
the reader scans by itself, units that the store lost are left out.
"""

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.approximate import ApproximateIndex, IndexEntry
from retriever.bm25 import LexicalSnapshot
from retriever.files import DamagedIndex, discard, locked, sync_folder
from retriever.lexical import LexicalIndex, LexicalUnit
from retriever.reader import Reader
from retriever.residence import Residence
from retriever.store import Store
from retriever.taken import CHANGING, Taken
from retriever.vectors import CURRENT, Build, VectorFiles, VectorSnapshot, live_rows

# So many units a reader has beside the mapped vectors (1,000 x 512 are 2 MB, 0.1 ms a query); beyond it the keeper
# appends them.
TAIL = 1_000

# Folders in which a lexical index is written anew, or goes.
_ASIDE = ".lexical."

# The parts that may be damaged, as they are spoken of.
COLUMNS, INDEX, LEXICAL = "the mapped vectors", "the dense index", "the lexical index"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The derived indices as they were at one moment. index: None where vectors are only scanned. residence: what lies
    on a GPU, None where nothing ever does.
    """

    dense: VectorSnapshot
    index: ApproximateIndex | None
    lexical: LexicalSnapshot
    residence: Residence | None = None


class Derived:
    """The derived indices of one collection, `dense/` and `lexical/`, and the lock `keeper.lock` beside them.

    Safe to use from several threads. What it opened stays open until something newer is there.
    troubles: what was found damaged and isn't made again yet, a sentence for each part.
    """

    def __init__(self, folder: Path, store: Store, dimension: int) -> None:
        self.folder = folder
        self.store = store
        self.vectors = VectorFiles(folder / "dense", dimension)
        self.lock = folder / "keeper.lock"
        self._noted = folder / "keeper.state"
        self.troubles: dict[str, str] = {}
        self._opening = threading.Lock()
        self._index: ApproximateIndex | None = None
        self._lexical: LexicalIndex | None = None

    def drop_newer(self) -> None:
        """Drop what was derived of a newer store than the one that is there. To be called before anything is written.

        Where an older store was put in its place, the keys that it gives next are those that were given before.
        """
        if self._is_newer():
            with locked(self.lock, wait=True):
                if self._is_newer():
                    log.warning("the derived indices of %s are newer than it, and made again", self.folder.name)
                    for path in (self.vectors.folder / CURRENT, self.folder / "lexical" / "meta.json", self._noted):
                        path.unlink(missing_ok=True)

    def _is_newer(self) -> bool:
        """Whether any index knows of something that the store doesn't."""
        # The store is read after them, so that it is at least as new.
        try:
            dense = self.vectors.current()
            since, last = dense.since, dense.last
        except FileNotFoundError:
            since, last = 0, 0
        except DamagedIndex:
            return True
        try:
            taken = Taken.read(self._noted) or self._taken()
            since, last = max(since, taken.generation), max(last, taken.watermark)
        except (FileNotFoundError, DamagedIndex):
            # Made again anyway.
            pass
        with self.store.reading() as reader:
            return since > reader.generation or last > reader.last_unit()

    def snapshots(self) -> Snapshots:
        """The indices as they are; what is missing or damaged is rebuilt first."""
        with self._opening:
            try:
                dense = self._dense_checked()
                return Snapshots(dense, self._opened_index(dense), self._lexical_checked())
            except (FileNotFoundError, DamagedIndex):
                with locked(self.lock, wait=True):
                    return self._repaired()

    def at_hand(self) -> Snapshots | None:
        """The indices as they are, where that takes moments.

        None while they are being changed or opened, where there is something to open and check first, and where
        something is damaged or can't be read: `snapshots` is for all of that.
        """
        if not self._opening.acquire(blocking=False):
            return None
        try:
            build = self.vectors.current()
            if not self.vectors.has_checked(build) or (build.index is not None and not self._has_opened(build.index)):
                return None
            dense = self._dense_checked()
            return Snapshots(dense, self._opened_index(dense), self._lexical_checked())
        except (OSError, DamagedIndex):
            return None
        finally:
            self._opening.release()

    def behind(self, reader: Reader) -> int:
        """How many units at most the index that lags most lacks: keys given since. Raises DamagedIndex."""
        try:
            watermark = min(self.vectors.current().last, self._taken().watermark)
        except FileNotFoundError:
            watermark = 0
        return reader.last_unit() - watermark

    def catch_up(self, *, tail: int = TAIL, wait: bool = False) -> bool:
        """Take in what the store has and the indices lack; false where another process is the keeper right now.

        tail: so many units may stay behind the mapped vectors. wait: for another keeper.
        """
        with self._opening, locked(self.lock, wait=wait) as free:
            if free:
                self._repaired()
                self._catch_up_dense(tail)
                try:
                    self._catch_up_lexical()
                except DamagedIndex:
                    # Opened again, all its files are looked at.
                    self._lexical = None
                    raise
            return free

    def rebuild_lexical(self) -> None:
        """Write the lexical index anew, while everybody waits."""
        with self._opening, locked(self.lock, wait=True):
            self._rebuild_lexical()

    def renew_lexical(self) -> None:
        """Write the lexical index anew beside the one that is used meanwhile. The caller holds the indexer's lock."""
        with self.store.reading() as reader, self._lexical_aside(reader) as aside:
            generation, last = reader.generation, reader.last_unit()
            with self._opening, locked(self.lock, wait=True):
                self._switch_lexical(aside, generation, last)
                self._catch_up_lexical()

    def sweep(self) -> None:
        """Remove files that don't count. The caller holds the indexer's lock, without which there may be new ones."""
        with locked(self.lock, wait=True):
            self.store.check_identity()
            self.vectors.sweep()
            for folder in self.folder.glob(f"{_ASIDE}*"):
                shutil.rmtree(folder)
            # Missing or damaged, it is about to be made again.
            with contextlib.suppress(FileNotFoundError, DamagedIndex):
                LexicalIndex.open(self.folder / "lexical").sweep()

    def problems(self, reader: Reader) -> list[str]:
        """What `verify` finds: live units that an index lacks below its watermark or holds otherwise, damaged files."""
        with self._opening, locked(self.lock, wait=True):
            snapshots = self._repaired()
            assert self._lexical is not None
            damaged = [f"the lexical index's file {name} is damaged" for name in self._lexical.damaged_files()]
            return damaged or [
                *self._dense_problems(reader, snapshots.dense),
                *self._lexical_problems(reader, snapshots.lexical),
            ]

    def _dense_problems(self, reader: Reader, dense: VectorSnapshot) -> Iterator[str]:
        live = reader.unit_keys()
        live = live[live <= dense.watermark]
        missing = np.setdiff1d(live, dense.keys, assume_unique=True)
        if len(missing):
            yield f"the dense index lacks {len(missing)} units"
            return
        if not np.array_equal(dense.keys[live_rows(dense, reader)], live):
            yield "the log of removed units differs from the units that are there"
        for batch in reader.unit_batches(self.vectors.dimension):
            rows = np.searchsorted(dense.keys, batch.keys[batch.keys <= dense.watermark])
            if not (
                np.array_equal(dense.documents[rows], batch.documents[: len(rows)])
                and np.array_equal(dense.kinds[rows], batch.kinds[: len(rows)])
                and np.array_equal(dense.vectors[rows], batch.vectors[: len(rows)])
            ):
                yield f"the dense index differs from the store between units {batch.keys[0]} and {batch.keys[-1]}"

    @staticmethod
    def _lexical_problems(reader: Reader, lexical: LexicalSnapshot) -> Iterator[str]:
        texts = np.fromiter((key for key, _, _ in reader.text_units(0)), dtype=np.int64)
        indexed = lexical.keys()
        missing = np.setdiff1d(texts[texts <= lexical.watermark], indexed)
        if len(missing):
            yield f"the lexical index lacks {len(missing)} units"
        if len(indexed) != len(np.unique(indexed)):
            yield "the lexical index holds units twice"

    def _repaired(self) -> Snapshots:
        """The indices; what is missing or damaged is rebuilt. The caller holds the lock."""
        try:
            dense = self._dense_checked()
        except (FileNotFoundError, DamagedIndex) as reason:
            self._note_damage(COLUMNS, reason)
            with self.store.reading() as reader:
                build = self.vectors.written(reader.unit_batches(self.vectors.dimension), reader.generation)
            self._commit(build)
            dense = self._dense_checked()
        try:
            index = self._opened_index(dense)
        except DamagedIndex as reason:
            self._note_damage(INDEX, reason)
            self._commit(with_index(dense.build, None, planned=0))
            dense, index = self.vectors.snapshot(), None
        try:
            lexical = self._lexical_checked()
        except (FileNotFoundError, DamagedIndex) as reason:
            self._note_damage(LEXICAL, reason)
            lexical = self._rebuild_lexical()
            self._note_mended(LEXICAL)
        return Snapshots(dense, index, lexical)

    def _commit(self, build: Build) -> None:
        # What is in the folder doesn't fit this store where the folder is another collection's by now.
        self.store.check_identity()
        self.vectors.commit(build)

    def _note_damage(self, part: str, reason: Exception) -> None:
        # A new collection has no indices yet, which is no news.
        if isinstance(reason, DamagedIndex):
            # Clients of the service read it: paths end at the collection.
            why = str(reason).replace(f"{self.folder}/", "")
            self.troubles[part] = f"{part} can't be used and must be made again: {why}"
            log.warning("%s: %s", self.folder.name, self.troubles[part])

    def _note_mended(self, part: str) -> None:
        if self.troubles.pop(part, None) is not None:
            log.info("%s: %s is made again", self.folder.name, part)

    # -- dense

    def _dense_checked(self) -> VectorSnapshot:
        """The mapped columns, held against the store: a restored older store shows here."""
        snapshot = self.vectors.snapshot()
        with self.store.reading() as reader:
            if snapshot.watermark > reader.last_unit() or snapshot.build.since > reader.generation:
                raise DamagedIndex("the mapped vectors are newer than the store")
        return snapshot

    def _opened_index(self, dense: VectorSnapshot) -> ApproximateIndex | None:
        if dense.build.index is None:
            self._index = None
        elif not self._has_opened(dense.build.index):
            self._index = ApproximateIndex.open(self.vectors.folder, IndexEntry.of(dense.build.index), dense.vectors)
        if not dense.build.lacks_index:
            self._note_mended(COLUMNS)
            self._note_mended(INDEX)
        return self._index

    def _has_opened(self, noted: Mapping[str, Any]) -> bool:
        return self._index is not None and self._index.entry == IndexEntry.of(noted)

    def _catch_up_dense(self, tail: int) -> None:
        current = self.vectors.current()
        with self.store.reading() as reader:
            if reader.last_unit() - current.last > tail:
                self.vectors.append(reader.unit_batches(self.vectors.dimension, after=current.last))

    # -- lexical

    def _lexical_checked(self) -> LexicalSnapshot:
        if self._lexical is None:
            self._lexical = LexicalIndex.open(self.folder / "lexical")
        try:
            snapshot = self._lexical_snapshot(self._lexical)
        except DamagedIndex:
            self._lexical = None
            raise
        with self.store.reading() as reader:
            newer = snapshot.watermark > reader.last_unit()
        if newer:
            raise DamagedIndex("the lexical index is newer than the store")
        return snapshot

    def _lexical_snapshot(self, index: LexicalIndex) -> LexicalSnapshot:
        taken = self._taken()
        snapshot = index.snapshot(taken.watermark)
        # Committed to in between: what was noted may not be true of what was opened.
        return snapshot if index.stamp().commit == taken.stamp.commit else index.snapshot()

    def _rebuild_lexical(self) -> LexicalSnapshot:
        with self.store.reading() as reader, self._lexical_aside(reader) as aside:
            index = self._switch_lexical(aside, reader.generation, reader.last_unit())
        return self._lexical_snapshot(index)

    @contextlib.contextmanager
    def _lexical_aside(self, reader: Reader) -> Iterator[Path]:
        """A new lexical index of all that the reader sees, in a folder of its own, which is gone after the block."""
        aside = self.folder / f"{_ASIDE}{os.urandom(4).hex()}"
        try:
            LexicalIndex.create(aside).update(lexical_units(reader, after=0), remove=())
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _switch_lexical(self, aside: Path, generation: int, watermark: int) -> LexicalIndex:
        """Have an index take the place of the one that is there. The caller holds the lock."""
        # Whether the folder still is this collection's, before anything in it is removed.
        self.store.check_identity()
        folder = self.folder / "lexical"
        self._lexical = None
        self._noted.unlink(missing_ok=True)
        discard(folder)
        aside.rename(folder)
        sync_folder(self.folder)
        self._lexical = index = LexicalIndex.open(folder)
        Taken(index.stamp(), generation, watermark).write(self._noted)
        return index

    def _catch_up_lexical(self) -> None:
        index = self._lexical
        assert index is not None
        with self.store.reading() as reader:
            taken = self._taken()
            if taken.generation == reader.generation:
                return
            snapshot = self._lexical_snapshot(index)
            gone = self._gone(reader, snapshot, taken.generation)
            behind = reader.last_unit() > snapshot.watermark
            if behind or len(gone):
                replace(taken, stamp=taken.stamp._replace(checksum=CHANGING)).write(self._noted)
                index.update(lexical_units(reader, after=snapshot.watermark), gone)
            self._note(index, reader)

    @staticmethod
    def _gone(reader: Reader, snapshot: LexicalSnapshot, since: int) -> NDArray[np.int64]:
        """Units to take out of the lexical index; found by comparison where the log of removals is too short."""
        removed = reader.removed(since)
        if removed is None:
            removed = np.setdiff1d(snapshot.keys(), reader.unit_keys())
        return removed[removed <= snapshot.watermark]

    def _taken(self) -> Taken:
        """What the newest commit of the lexical index has taken in.

        Where that isn't known, removals are repeated (generation 0) and the index itself says how far it reaches.
        Raises DamagedIndex.
        """
        if self._lexical is None:
            self._lexical = LexicalIndex.open(self.folder / "lexical")
        noted = Taken.read(self._noted)
        stamp = self._lexical.stamp()
        if noted is not None and noted.stamp.commit == stamp.commit:
            if noted.stamp.checksum not in (stamp.checksum, CHANGING):
                raise DamagedIndex("what the lexical index names as committed differs from its checksum")
            return noted
        return Taken(stamp, 0, self._lexical.snapshot().watermark)

    def _note(self, index: LexicalIndex, reader: Reader) -> None:
        Taken(index.stamp(), reader.generation, reader.last_unit()).write(self._noted)


def lexical_units(reader: Reader, *, after: int) -> Iterator[LexicalUnit]:
    """The passages and captions above a key, as the lexical index takes them."""
    return (LexicalUnit(key, text, language) for key, language, text in reader.text_units(after))


def with_index(build: Build, entry: IndexEntry | None, planned: int) -> Build:
    """A build with an index noted, or that there is none for so many rows."""
    return replace(build, index=None if entry is None else asdict(entry), planned=planned)
