"""A GPU as the dense side uses it: what it can't do and what is done instead, how much memory is taken, FAISS's calls.

On the device lies an exact copy of a collection's mapped vectors; only `owner.py` talks to it. What is said of FAISS
here is from its sources, version 1.15, under faiss/gpu; docs/decisions/0009-gpu.md names the places.

Axes: Q queries, N rows, D dimensions, K results, L lists of an inverted file.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from retriever.dense import load_faiss
from retriever.errors import MissingDependency

# FAISS selects at most so many results on a device (GPU_MAX_SELECTION_K).
MAX_K = 2048
# Rows whose scores FAISS holds at once for each query, in two buffers; fewer on small devices and for short vectors,
# which makes more tiles, each with K results in two buffers (chooseTileSize, runDistance).
TILE, SMALLEST_TILE = 262_144, 131_072
# Device memory for one call: 1,000,000 rows take 2.1 MB a query, so that some 250 queries go in one call.
TEMPORARY = 512 << 20
# Device memory that stays free: FAISS ends the process where cuBLAS finds none for itself.
HEADROOM = 512 << 20
# Of the device memory that is free vectors take so much, unless told otherwise: an encoder may want the rest.
SHARE = 0.5

SUCCESS = 0  # of CUDA's calls


class GpuFailed(Exception):
    """The device didn't do what it was asked for, mostly for lack of memory. The CPU can."""


class Device(Protocol):
    """What `owner.py` needs of a device; used by one thread."""

    def free(self) -> int:
        """Bytes that can still be taken."""

    def matrix(self, dimension: int) -> Any:  # noqa: ANN401 - FAISS has no types
        """An empty FAISS index on the device that compares every row by inner product. Raises RuntimeError."""

    def close(self) -> None:
        """Give back what isn't an index."""


class Cuda:
    """The first device that CUDA shows (CUDA_VISIBLE_DEVICES chooses among several)."""

    def __init__(self) -> None:
        self._resources: Any = None

    def free(self) -> int:
        """Bytes that can still be taken. Raises RuntimeError."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        runtime = _runtime()
        if runtime is None or runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) != SUCCESS:
            raise RuntimeError("CUDA doesn't tell how much memory is free")
        return free.value

    def matrix(self, dimension: int) -> Any:  # noqa: ANN401
        """An empty `GpuIndexFlatIP`. Raises RuntimeError."""
        faiss = load_faiss()
        if self._resources is None:
            self._resources = self._made()
        config = faiss.GpuIndexFlatConfig()
        config.device = 0
        # FAISS has a build whose default is cuVS; what the capability table says is of FAISS's own kernels.
        config.use_cuvs = False
        return faiss.GpuIndexFlatIP(self._resources, dimension, config)

    def close(self) -> None:
        """Give back the temporary memory and the streams."""
        self._resources = None

    def _made(self) -> Any:  # noqa: ANN401
        if self.free() < TEMPORARY + HEADROOM:
            raise RuntimeError(f"{self.free():,} bytes are free on the device, it takes {TEMPORARY + HEADROOM:,}")
        resources = load_faiss().StandardGpuResources()
        resources.setTempMemory(TEMPORARY)
        # Pinned memory is for batches of queries above 256 MiB, which are never sent.
        resources.setPinnedMemory(0)
        return resources


@dataclass(frozen=True, slots=True)
class Ask:
    """A search for the nearest `count` rows, where `dropped` of the rows on the device don't count for it."""

    count: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that a device can't do, why, and what is done instead. meets: whether a search comes upon it."""

    what: str
    why: str
    instead: str
    meets: Callable[[Ask], bool] = lambda _: False


# Everything else that a device can't do is met elsewhere: by `Owner.load` (memory) and `gpu_training.py` (building).
GAPS = (
    Gap(
        "a filter, removed rows, another tower's rows",
        "GpuIndexFlat takes a selector and ignores it without an error",
        "rows that don't count are asked for beside and dropped; where that makes more than 2,048, the CPU's index",
        lambda ask: ask.dropped > 0 and ask.count + ask.dropped > MAX_K,
    ),
    Gap(
        "more than 2,048 results",
        "the selection kernels end there, a larger k is refused",
        "the CPU's index, or its scan",
        lambda ask: ask.count > MAX_K,
    ),
    Gap(
        "the kinds rabitq, hnsw, scalar codes without lists, fast-scan codes",
        "there are no GPU indices of them",
        "not needed: the device compares every vector, exactly; the CPU keeps the index for what the device can't do",
    ),
    Gap(
        "more vectors than fit",
        "GpuIndexFlat keeps all of its rows on one device",
        "the collection is searched on the CPU; first come, first served",
    ),
    Gap(
        "several threads",
        "a device's resources serve one thread at a time, else the process ends",
        "one thread owns the device; searches that wait for it together are answered in one call",
    ),
    Gap(
        "searches while vectors are copied or an index is trained",
        "they would wait for seconds",
        "the CPU answers them meanwhile",
    ),
    Gap(
        "filling lists of fast-scan codes, or lists behind a transform (PCA, OPQ)",
        "their `add` finds the lists by itself and takes none that were found before",
        "the lists are trained on the device, rows are assigned to them on the CPU",
    ),
)


def obstacle(ask: Ask) -> Gap | None:
    """What keeps a device from answering this search; None where it can."""
    return next((gap for gap in GAPS if gap.meets(ask)), None)


def gpus() -> int:
    """How many GPUs FAISS can use: 0 without its GPU build, a device or a driver, or after a fork from its user."""
    try:
        faiss = load_faiss()
    except MissingDependency:
        return 0
    if "GPU" not in faiss.get_compile_options().split() or (runtime := _runtime()) is None:
        return 0
    # Not faiss.get_num_gpus(), which ends the process upon any error but a missing device or driver.
    count = ctypes.c_int(0)
    return count.value if runtime.cudaGetDeviceCount(ctypes.byref(count)) == SUCCESS else 0


def _runtime() -> Any:  # noqa: ANN401
    """CUDA's runtime library, as FAISS has loaded it; None where it hasn't."""
    for name in ("libcudart.so.12", "libcudart.so.13"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def resident_bytes(rows: int, dimension: int) -> int:
    """Device memory of so many rows: the vectors and their norms, which FAISS keeps also where it doesn't use them."""
    return rows * (dimension + 1) * 4


def queries_at_once(rows: int, dimension: int, k: int) -> int:
    """How many queries the temporary memory holds in one call: their vectors, scores and results."""
    tiles = -(-rows // SMALLEST_TILE)
    each = 2 * 4 * min(rows, TILE) + 2 * 12 * tiles * k + 12 * k + 4 * dimension
    return max(1, TEMPORARY // each)
