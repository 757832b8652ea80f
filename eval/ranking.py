"""Exact search of a whole corpus, in blocks of bounded memory.

Axes: Q queries, N documents, D dimensions, K ranks, J judgements.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from eval.runs import Run, hashed_places, in_units, of_units
from eval.tasks import Task
from retriever.machine import cores

# Bytes of one block of scores: some queries by all documents. Larger ones aren't faster, at 200,000 documents.
BLOCK = 256 << 20
# From so many of a query's documents on, one sort of all scores (5 ms at 200,000) costs less than counting for each.
MANY = 64

Scores = NDArray[np.float32]
Rows = NDArray[np.int64]


def rank(queries: Scores, documents: Scores, task: Task, k: int, *, block: int = BLOCK) -> Run:
    """The best k of all documents for each query by inner product, and the exact rank of every judged document.

    queries: (Q, D), documents: (N, D), float32, which may be mapped. block: bytes of scores at a time, one query's at
    least. A document with the query's own id is left out where the task says so. Products that differ by less than
    float32 sums do (some 1e-7 between unit vectors) may be rounded either way, which depends on how they are blocked.
    Raises ValueError if k < 1, for no documents, and for vectors that aren't those of the task or not finite.
    """
    _check(queries, documents, task, k)
    k = min(k, len(documents))
    own, places = _own(task), hashed_places(task.corpus)
    bounds = np.searchsorted(task.judgements.query, np.arange(len(queries) + 1))
    found = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ranks = np.full(len(task.judgements), np.inf)

    def answer(query: int, row: Scores) -> None:
        if own[query] >= 0:
            row[own[query]] = -np.inf
        best = _best(row, k, places)
        found[query, : len(best)], scores[query, : len(best)] = best, of_units(row[best])
        judged = slice(bounds[query], bounds[query + 1])
        ranks[judged] = _ranks(row, task.judgements.document[judged])

    # NumPy lets go of the interpreter in what takes long: two cores halve it.
    with ThreadPoolExecutor(cores()) as pool:
        for start, rows in _blocks(queries, documents, block):
            list(pool.map(answer, range(start, start + len(rows)), rows))
    return Run(found, scores, ranks, None)


def _check(queries: Scores, documents: Scores, task: Task, k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not len(documents):
        raise ValueError("there are no documents to rank")
    for vectors, items, what in ((queries, task.queries, "queries"), (documents, task.corpus, "documents")):
        if len(vectors) != len(items):
            raise ValueError(f"{len(items)} {what} need as many vectors, got {len(vectors)}")
        # A sum is finite where all of its terms are, of these sizes; no array of N x D truths is made.
        if not np.isfinite(vectors.sum(dtype=np.float64)):
            raise ValueError(f"a vector of the {what} isn't finite")


def _own(task: Task) -> Rows:
    """The place of the document that each query must not find, -1 where there is none."""
    if not task.ignores_same_id:
        return np.full(len(task.queries), -1, np.int64)
    corpus = {identifier: place for place, identifier in enumerate(task.corpus.ids)}
    return np.array([corpus.get(identifier, -1) for identifier in task.queries.ids], np.int64)


def _blocks(queries: Scores, documents: Scores, block: int) -> Iterator[tuple[int, Scores]]:
    """The first query's place and the scores in whole units of each block, (rows, N): valid until the next one."""
    rows = max(1, min(block // (4 * max(len(documents), 1)), len(queries)))
    memory = np.empty((rows, len(documents)), np.float32)
    for start in range(0, len(queries), rows):
        part = queries[start : start + rows]
        products = np.matmul(part, documents.T, out=memory[: len(part)])
        yield start, in_units(products, out=products)


def _best(row: Scores, k: int, places: Rows) -> Rows:
    """The best k of a row (N,), ties by place; all that tie with the last are looked at."""
    candidates = np.flatnonzero(row >= max(_bound(row, k), np.finfo(np.float32).min))
    order = np.lexsort((places[candidates], -row[candidates]))
    return candidates[order[:k]]


def _bound(row: Scores, k: int) -> np.float32:
    """A value that k or more of a row (N,) reach, and hardly more than k: the k-th best of the maxima of 4 k groups.

    A pass over the row and a partition of the maxima take a tenth of the time of a partition of the row. A group is
    every so-manieth score: their maxima are taken side by side.
    """
    size = max(1, len(row) // (4 * k))
    maxima = row[: len(row) // size * size].reshape(size, -1).max(axis=0)
    return np.float32(np.partition(maxima, len(maxima) - k)[len(maxima) - k])


def _ranks(row: Scores, judged: Rows) -> NDArray[np.float64]:
    """How many of a row (N,) are better than each of some of it, and half of the others that are as good."""
    own = row[judged]
    if len(judged) < MANY:
        better = np.array([np.count_nonzero(row > score) for score in own], np.int64)
        as_good = np.array([np.count_nonzero(row == score) for score in own], np.int64)
    else:
        ascending = np.sort(row)
        upper = np.searchsorted(ascending, own, side="right")
        better = len(row) - upper
        as_good = upper - np.searchsorted(ascending, own, side="left")
    return np.where(own > -np.inf, better + (as_good - 1) / 2, np.inf)
