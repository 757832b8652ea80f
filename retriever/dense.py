"""The dense index: every vector up to a watermark in a memory-mapped file, and exact search over it.

Axes: Q queries, N rows, D dimensions, K results. Row i of the file is the vector of unit `keys[i]`; keys ascend. A
key's vector never changes, so the files are only ever appended to or replaced by a new build; a reader keeps what it
mapped.

    dense/current.json          {"build", "rows", "dimension"}, replaced atomically: what of the files counts
    dense/<build>.keys          int64, little endian
    dense/<build>.vectors.f32   float32, little endian, row by row
"""

import os
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from retriever.errors import MissingDependency
from retriever.files import DamagedIndex, replace_file, sync_folder

Batches = Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]

# FAISS answers few queries faster row by row and many by matrix products; it counts from which number on.
# 200,000 x 384, one thread, AVX-512: 4 queries 56 ms either way, 256 queries 524 ms row by row and 438 ms by products.
BLAS_FROM = 8

_configured = threading.Lock()


@dataclass(frozen=True, slots=True)
class _Current:
    build: str
    rows: int
    dimension: int


@dataclass(frozen=True, slots=True)
class VectorSnapshot:
    """The mapped file as it was at one moment: keys int64 (N,), vectors float32 (N, D)."""

    keys: NDArray[np.int64]
    vectors: NDArray[np.float32]

    @property
    def watermark(self) -> int:
        """The largest key held, 0 where there is none."""
        return int(self.keys[-1]) if len(self.keys) else 0

    @classmethod
    def empty(cls, dimension: int) -> "VectorSnapshot":
        """No rows."""
        return cls(np.empty(0, np.int64), np.empty((0, dimension), np.float32))


class VectorFile:
    """The folder of the dense index. Only the keeper of the derived indices calls `append` and `rebuild`."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self.folder = folder
        self.dimension = dimension

    def snapshot(self) -> VectorSnapshot:
        """Map what is there; raises FileNotFoundError where there is nothing, DamagedIndex where it doesn't fit."""
        current = self._current()
        if current.rows == 0:
            return VectorSnapshot.empty(self.dimension)
        keys = self._map(self._keys_path(current.build), np.dtype("<i8"), (current.rows,))
        vectors = self._map(self._vectors_path(current.build), np.dtype("<f4"), (current.rows, self.dimension))
        if keys[0] < 1 or not (keys[1:] > keys[:-1]).all():
            raise DamagedIndex(f"{self.folder}: keys don't ascend")
        return VectorSnapshot(keys, vectors)

    def append(self, batches: Batches) -> None:
        """Add rows with keys above the watermark; they count once all of them are on the disk."""
        current = self._current()
        with (
            self._keys_path(current.build).open("r+b") as keys,
            self._vectors_path(current.build).open("r+b") as vectors,
        ):
            # What a killed keeper left behind its last commit is written over.
            keys.truncate(current.rows * 8)
            vectors.truncate(current.rows * self.dimension * 4)
            rows = current.rows + _write(batches, keys, vectors)
        self._commit(_Current(current.build, rows, self.dimension))

    def rebuild(self, batches: Batches) -> None:
        """Write all rows anew beside the old ones, then switch over."""
        self.folder.mkdir(parents=True, exist_ok=True)
        build = os.urandom(6).hex()
        with self._keys_path(build).open("wb") as keys, self._vectors_path(build).open("wb") as vectors:
            rows = _write(batches, keys, vectors)
        sync_folder(self.folder)
        self._commit(_Current(build, rows, self.dimension))
        for path in self.folder.iterdir():
            if path.name != "current.json" and not path.name.startswith(build):
                path.unlink(missing_ok=True)

    def _current(self) -> _Current:
        try:
            current = _Current(**orjson.loads((self.folder / "current.json").read_bytes()))
        except (orjson.JSONDecodeError, TypeError) as error:
            raise DamagedIndex(f"{self.folder}/current.json: {error}") from None
        if current.dimension != self.dimension or not isinstance(current.rows, int) or current.rows < 0:
            raise DamagedIndex(f"{self.folder}/current.json doesn't belong to vectors of {self.dimension} dimensions")
        return current

    def _commit(self, current: _Current) -> None:
        replace_file(self.folder / "current.json", orjson.dumps(asdict(current)))

    def _keys_path(self, build: str) -> Path:
        return self.folder / f"{build}.keys"

    def _vectors_path(self, build: str) -> Path:
        return self.folder / f"{build}.vectors.f32"

    @staticmethod
    def _map(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        try:
            return np.memmap(path, dtype=dtype, mode="r", shape=shape).view(np.ndarray)
        except (ValueError, OSError) as error:
            raise DamagedIndex(f"{path}: {error}") from None


def _write(batches: Batches, keys: BinaryIO, vectors: BinaryIO) -> int:
    """Write batches at the end of both files and sync them; the number of rows."""
    rows = 0
    for file in (keys, vectors):
        file.seek(0, os.SEEK_END)
    for batch_keys, batch_vectors in batches:
        keys.write(batch_keys.astype("<i8").tobytes())
        vectors.write(np.ascontiguousarray(batch_vectors, dtype="<f4").tobytes())
        rows += len(batch_keys)
    for file in (keys, vectors):
        file.flush()
        os.fsync(file.fileno())
    return rows


def nearest(
    queries: NDArray[np.float32], vectors: NDArray[np.float32], k: int, *, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Exact search by inner product: scores float32 (Q, K) descending, rows int64 (Q, K), -1 where there are no more.

    queries: (Q, D) and vectors: (N, D), float32, C-contiguous. allowed: bool (N,), the rows to look at; None means all.
    """
    faiss = load_faiss()
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    if len(vectors) == 0 or len(queries) == 0:
        return scores, rows
    selector = None
    if allowed is not None:
        bitmap = np.packbits(allowed, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(allowed), faiss.swig_ptr(bitmap))
    # One thread a call: FAISS's threads wait for each other, and on a machine that does anything else beside for long.
    # 60,000 x 512 on 2 cores of which one was busy: 4 queries took 20 ms on one thread and 285 ms on two.
    faiss.omp_set_num_threads(1)
    faiss.knn_inner_product(
        faiss.swig_ptr(queries), faiss.swig_ptr(vectors), queries.shape[1], len(queries), len(vectors), k,
        faiss.swig_ptr(scores), faiss.swig_ptr(rows), selector,
    )  # fmt: skip
    return scores, rows


def rescore(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Inner products of one query (D,) with rows (N, D), rounded to 1e-6.

    FAISS sums in another order on each of its paths. What orders hits is computed here, in one way, so that equal
    vectors have equal scores wherever they are found, and ties break by key.
    """
    products: NDArray[np.float64] = np.einsum("nd,d->n", vectors, query, dtype=np.float64)
    return products.round(6).astype(np.float32)


def load_faiss() -> Any:  # noqa: ANN401 - a module without types
    """FAISS, set up once; raises MissingDependency."""
    try:
        import faiss
    except ModuleNotFoundError:
        raise MissingDependency(
            "FAISS is not installed",
            hint='install it: pip install "polyseek[cpu]", or "polyseek[gpu]" with an NVIDIA GPU',
        ) from None
    with _configured:
        faiss.cvar.distance_compute_blas_threshold = BLAS_FROM
    return faiss
