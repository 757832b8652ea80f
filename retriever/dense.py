"""FAISS: exact search over vectors, in one way for whoever compares any.

Axes: Q queries, N rows, D dimensions, K results.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.errors import MissingDependency

# FAISS answers few queries faster row by row and many by matrix products; it is told from which number on, a smaller
# one where the vectors (here their components) don't fit into the cache. One thread, AVX-512, row by row / by products:
# 200,000 x 384: 1 query 10 / 57 ms, 4 42 / 54, 6 65 / 60, 8 81 / 57, 64 659 / 145, 256 2,730 / 460; 10,000 x 384: by
# products 1 query takes 8.5 times as long, 4 1.4, 6 1.3, 8 0.9.
BLAS_FROM, BLAS_FROM_CACHED = 6, 8
CACHED = 8_000_000
# So many rows that don't count are asked for beside and dropped; a row set would make FAISS go row by row.
DROPPED = 64

Queries = NDArray[np.float32]
Rows = NDArray[np.int64]


def nearest(
    queries: Queries, vectors: NDArray[np.float32], k: int, *, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], Rows]:
    """Exact search by inner product: scores float32 (Q, K) descending, rows int64 (Q, K), -1 where there are no more.

    queries: (Q, D) and vectors: (N, D), float32, C-contiguous. allowed: bool (N,), the rows to look at; None means all.
    """
    if allowed is None or len(queries) == 0 or len(vectors) == 0:
        return _scan(queries, vectors, k, None)
    dropped = len(allowed) - int(np.count_nonzero(allowed))
    if dropped > DROPPED:
        return _scan(queries, vectors, k, np.packbits(allowed, bitorder="little"))
    scores, rows = _scan(queries, vectors, k + dropped, None)
    if dropped:
        rows, first = first_allowed(rows, allowed, k)
        scores = np.where(rows >= 0, np.take_along_axis(scores, first, axis=1), np.float32(-np.inf))
    return scores, rows


def first_allowed(rows: Rows, allowed: NDArray[np.bool_], k: int) -> tuple[Rows, Rows]:
    """The first k of each query's rows (Q, K) that are allowed, -1 where there are no more; and their places."""
    passes = (rows >= 0) & allowed[rows]
    first = np.argsort(~passes, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(passes, first, axis=1), np.take_along_axis(rows, first, axis=1), -1), first


def _scan(
    queries: Queries, vectors: NDArray[np.float32], k: int, bitmap: NDArray[np.uint8] | None
) -> tuple[NDArray[np.float32], Rows]:
    faiss = searching(vectors.shape[1], len(vectors))
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    if len(vectors) == 0 or len(queries) == 0:
        return scores, rows
    faiss.knn_inner_product(
        faiss.swig_ptr(queries), faiss.swig_ptr(vectors), queries.shape[1], len(queries), len(vectors), k,
        faiss.swig_ptr(scores), faiss.swig_ptr(rows), None if bitmap is None else selector(bitmap, len(vectors)),
    )  # fmt: skip
    rows[scores == -np.inf] = -1
    return scores, rows


def inner_products(queries: Queries, vectors: NDArray[np.float32], rows: Rows) -> NDArray[np.float32]:
    """Inner products of each query (Q, D) with some rows (Q, K) of the vectors (N, D), rounded to 1e-6.

    Float32 (Q, K), -inf where the row is negative. FAISS sums in another order on each of its searches' paths. What
    orders hits is computed here, row by row in one way, so that equal vectors have equal scores wherever they are
    found, and ties break by key. In place in the mapped file: 256 of 200,000 x 512 take 70 us, gathered first 160.
    """
    faiss = searching(vectors.shape[1], len(vectors))
    rows = np.ascontiguousarray(rows)
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    if rows.size and len(vectors):
        faiss.fvec_inner_products_by_idx(
            faiss.swig_ptr(scores), faiss.swig_ptr(queries), faiss.swig_ptr(vectors), faiss.swig_ptr(rows),
            vectors.shape[1], rows.shape[0], rows.shape[1],
        )  # fmt: skip
    return scores.astype(np.float64).round(6).astype(np.float32)


def load_faiss() -> Any:  # noqa: ANN401 - a module without types
    """The library; raises MissingDependency."""
    try:
        import faiss
    except ModuleNotFoundError:
        raise MissingDependency(
            "FAISS is not installed",
            hint='install it: pip install "polyseek[cpu]", or "polyseek[gpu]" with an NVIDIA GPU',
        ) from None
    return faiss


def searching(dimension: int, count: int) -> Any:  # noqa: ANN401
    """FAISS, set up for this thread to search among so many vectors of this dimension."""
    faiss = load_faiss()
    # One thread a call: FAISS's threads wait for each other, and on a machine that does anything else beside for long.
    # 60,000 x 512 on 2 cores of which one was busy: 4 queries took 20 ms on one thread and 285 ms on two.
    faiss.omp_set_num_threads(1)
    # Compared with queries times dimensions, of all threads: another thread's value makes a search slower at worst.
    faiss.cvar.distance_compute_blas_threshold = dimension * (
        BLAS_FROM_CACHED if count * dimension < CACHED else BLAS_FROM
    )
    return faiss


def selector(bitmap: NDArray[np.uint8], rows: int) -> Any:  # noqa: ANN401 - FAISS has no types
    """The rows that a bitmap allows, as FAISS takes them. The bitmap must outlive it."""
    faiss = load_faiss()
    return faiss.IDSelectorBitmap(rows, faiss.swig_ptr(bitmap))
