"""The columns of the dense side: what every unit is and its vector, row by row in memory-mapped files.

Axes: N rows, D dimensions. A row is a place in all columns of one build; rows are only ever appended, and keys ascend.
What a row says never changes, so a reader keeps what it mapped, and an index over rows stays true of its build.

    dense/current.json      what of the files counts, replaced atomically: build, rows, dimension, checksums …
    dense/<build>.keys      int64    key of the unit
    dense/<build>.documents int64    key of its document
    dense/<build>.kinds     uint8    its kind
    dense/<build>.vectors   float32  its vector

All little endian. A checksum is a CRC-32C over the rows that count, which goes on where it ended when rows are
appended; a reader checks every byte once, when it first maps it: 1.5 GB (1,000,000 x 384) take 0.1 s.
"""

import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from crc32c import crc32c
from numpy.typing import NDArray

from retriever.files import DamagedIndex, replace_file, sync_folder
from retriever.reader import Reader, UnitRows

COLUMNS: dict[str, np.dtype[Any]] = {
    "keys": np.dtype("<i8"),
    "documents": np.dtype("<i8"),
    "kinds": np.dtype("u1"),
    "vectors": np.dtype("<f4"),
}
CURRENT = "current.json"

Batches = Iterable[UnitRows]


@dataclass(frozen=True, slots=True)
class Build:
    """What of the files of one build counts.

    since: the generation of the store from which on its log tells what was removed of these rows. last: the largest
    key, 0 where there are no rows. planned: rows there were when the kind of the index was chosen. index: what
    `approximate.py` notes of the FAISS index over the first rows, None where there is none.
    """

    build: str
    rows: int
    dimension: int
    since: int
    last: int = 0
    planned: int = 0
    checksums: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(COLUMNS, 0))
    index: Mapping[str, Any] | None = None

    @property
    def lacks_index(self) -> bool:
        """Whether it hasn't been decided yet which index is to be over these rows, if any."""
        return self.rows > 0 and self.planned == 0 and self.index is None


@dataclass(frozen=True, slots=True)
class VectorSnapshot:
    """The mapped columns as they were at one moment: keys, documents int64 (N,), kinds uint8 (N,), vectors (N, D)."""

    build: Build
    keys: NDArray[np.int64]
    documents: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    vectors: NDArray[np.float32]

    @property
    def watermark(self) -> int:
        """The largest key held, 0 where there is none."""
        return self.build.last


def live_rows(dense: VectorSnapshot, reader: Reader) -> NDArray[np.bool_]:
    """Which rows' units are still there, bool (N,)."""
    removed = reader.removed(dense.build.since)
    if removed is None:
        return np.isin(dense.keys, reader.unit_keys(), assume_unique=True)
    live = np.ones(len(dense.keys), dtype=np.bool_)
    removed = removed[removed <= dense.watermark]
    rows = np.searchsorted(dense.keys, removed)
    # Units that were removed before they were taken in have no row.
    live[rows[dense.keys[rows] == removed]] = False
    return live


class VectorFiles:
    """The folder of the dense side. Whoever changes what is current holds the keeper's lock."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self.folder = folder
        self.dimension = dimension
        self._checking = threading.Lock()
        self._checked: Build | None = None

    def snapshot(self) -> VectorSnapshot:
        """Map what is there; raises FileNotFoundError where there is nothing, DamagedIndex where it doesn't fit."""
        snapshot = self.mapped(self.current())
        with self._checking:
            self._check(snapshot)
        return snapshot

    def current(self) -> Build:
        """What counts. Raises FileNotFoundError, DamagedIndex."""
        try:
            values = orjson.loads((self.folder / CURRENT).read_bytes())
            checksum = values.pop("checksum")
            current = Build(**values)
            named = set(current.checksums) == set(COLUMNS)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise DamagedIndex(f"{self.folder / CURRENT}: {error}") from None
        if not named or checksum != _checksum(current) or current.dimension not in (0, self.dimension):
            raise DamagedIndex(f"{self.folder / CURRENT} doesn't fit vectors of {self.dimension} dimensions")
        if current.dimension != self.dimension:
            raise FileNotFoundError(f"{self.folder / CURRENT} is from before the first vector")
        return current

    def has_checked(self, build: Build) -> bool:
        """Whether this process has read and checked the rows of a build, but for those that were appended since."""
        return self._checked is not None and self._checked.build == build.build

    def stamp(self) -> tuple[int, int] | None:
        """Tells what is current at two moments apart without reading it; None where there is nothing."""
        try:
            status = (self.folder / CURRENT).stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def append(self, batches: Batches) -> None:
        """Add rows with keys above the watermark; they count once all of them are on the disk."""
        self.commit(self.extended(self.current(), batches))

    def extended(self, build: Build, batches: Batches) -> Build:
        """A build with these rows behind its own, on the disk but not yet current."""
        with ExitStack() as stack:
            files = {name: stack.enter_context(self.path(build.build, name).open("r+b")) for name in COLUMNS}
            for name, file in files.items():
                # What a killed process left behind the rows that count is written over.
                file.truncate(build.rows * self._width(name))
                file.seek(0, os.SEEK_END)
            build = _written(build, files, batches)
        return build

    def written(self, batches: Batches, since: int) -> Build:
        """A new build of these rows beside the current one, on the disk but not yet current."""
        self.folder.mkdir(parents=True, exist_ok=True)
        build = Build(os.urandom(6).hex(), 0, self.dimension, since)
        with ExitStack() as stack:
            files = {name: stack.enter_context(self.path(build.build, name).open("wb")) for name in COLUMNS}
            build = _written(build, files, batches)
        sync_folder(self.folder)
        return build

    def commit(self, build: Build) -> None:
        """Make a build what counts."""
        values = {**asdict(build), "checksum": _checksum(build)}
        replace_file(self.folder / CURRENT, orjson.dumps(values))

    def sweep(self) -> None:
        """Remove what isn't current: the caller knows that nobody is writing beside."""
        current = self.current()
        kept = {CURRENT, *(self.path(current.build, name).name for name in COLUMNS)}
        kept |= {str(file["name"]) for file in (current.index or {}).get("files", {}).values()}
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def path(self, build: str, column: str) -> Path:
        """The file of a column."""
        return self.folder / f"{build}.{column}"

    def _width(self, column: str) -> int:
        return COLUMNS[column].itemsize * (self.dimension if column == "vectors" else 1)

    def mapped(self, build: Build) -> VectorSnapshot:
        """The columns of a build, current or not, as they are. Raises DamagedIndex where they don't fit."""
        columns = {}
        for name, dtype in COLUMNS.items():
            shape = (build.rows, self.dimension) if name == "vectors" else (build.rows,)
            columns[name] = _map(self.path(build.build, name), dtype, shape)
        return VectorSnapshot(build, **columns)

    def _check(self, snapshot: VectorSnapshot) -> None:
        """Compare the checksums of what this process hasn't checked yet. Raises DamagedIndex."""
        build, before = snapshot.build, self._checked
        same = before is not None and before.build == build.build and before.rows <= build.rows
        start = before if before is not None and same else replace(build, rows=0, checksums=dict.fromkeys(COLUMNS, 0))
        for name in COLUMNS:
            column = getattr(snapshot, name)[start.rows :]
            if crc32c(column.data.cast("B") if column.size else b"", start.checksums[name]) != build.checksums[name]:
                raise DamagedIndex(f"{self.path(build.build, name)} differs from its checksum")
        self._checked = build


def _written(build: Build, files: Mapping[str, BinaryIO], batches: Batches) -> Build:
    """Write batches at the end of all columns and sync them; the build with them."""
    rows, last, checksums = build.rows, build.last, dict(build.checksums)
    for batch in batches:
        for name, file in files.items():
            content = np.ascontiguousarray(getattr(batch, name), dtype=COLUMNS[name]).tobytes()
            file.write(content)
            checksums[name] = crc32c(content, checksums[name])
        rows, last = rows + len(batch.keys), int(batch.keys[-1])
    for file in files.values():
        file.flush()
        os.fsync(file.fileno())
    return replace(build, rows=rows, last=last, checksums=checksums)


def _map(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        if shape[0] == 0:
            return np.empty(shape, dtype)
        return np.memmap(path, dtype=dtype, mode="r", shape=shape).view(np.ndarray)
    except (ValueError, FileNotFoundError) as error:
        raise DamagedIndex(f"{path}: {error}") from None


def _checksum(build: Build) -> int:
    """Of all that `current.json` says, so that a flipped digit of it shows."""
    return int(crc32c(orjson.dumps(asdict(build), option=orjson.OPT_SORT_KEYS)))
