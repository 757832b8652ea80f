"""Exact search of a whole corpus, in blocks of bounded memory.

Axes: Q queries, N documents, D dimensions, K ranks, J judgements.
"""

import numpy as np
from numpy.typing import NDArray

from eval.runs import UNIT, Run, hashed_places, in_units
from eval.tasks import Task

# Bytes of one block of scores: some queries by all documents.
BLOCK = 256 << 20


def rank(
    queries: NDArray[np.float32], documents: NDArray[np.float32], task: Task, k: int, *, block: int = BLOCK
) -> Run:
    """The best k of all documents for each query by inner product, and the exact rank of every judged document.

    queries: (Q, D), documents: (N, D), float32. block: bytes of scores at a time. A document with the query's own id is
    left out where the task says so. Raises ValueError if k < 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    k = min(k, len(documents))
    rows = max(1, block // (4 * max(len(documents), 1)))
    own = _own(task)
    places = hashed_places(task.corpus)
    found = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ranks = np.full(len(task.judgements), np.inf)
    bounds = np.searchsorted(task.judgements.query, np.arange(len(queries) + 1))
    for start in range(0, len(queries), rows):
        units = in_units(queries[start : start + rows] @ documents.T)
        for query, row in enumerate(units, start=start):
            if own[query] >= 0:
                row[own[query]] = -np.inf
            best = _best(row, k, places)
            found[query, : len(best)], scores[query, : len(best)] = best, row[best] * UNIT
            mine = slice(bounds[query], bounds[query + 1])
            ranks[mine] = _ranks(row, task.judgements.document[mine])
    return Run(found, scores, ranks, None)


def _own(task: Task) -> NDArray[np.int64]:
    """The place of the document that each query must not find, -1 where there is none."""
    if not task.ignores_same_id:
        return np.full(len(task.queries), -1, np.int64)
    corpus = {identifier: place for place, identifier in enumerate(task.corpus.ids)}
    return np.array([corpus.get(identifier, -1) for identifier in task.queries.ids], np.int64)


def _best(row: NDArray[np.float32], k: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The best k of a row (N,), ties by place; all that tie with the last are looked at."""
    least = np.partition(row, len(row) - k)[len(row) - k]
    candidates = np.flatnonzero(row >= least) if least > -np.inf else np.flatnonzero(row > -np.inf)
    order = np.lexsort((places[candidates], -row[candidates]))
    return candidates[order[:k]]


def _ranks(row: NDArray[np.float32], judged: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many of a row (N,) are better than each of some of it, and half of the others that are as good."""
    own = row[judged][:, None]
    better = np.array([np.count_nonzero(row > score) for score in own], np.float64)
    as_good = np.array([np.count_nonzero(row == score) for score in own], np.float64)
    return np.where(row[judged] > -np.inf, better + (as_good - 1) / 2, np.inf)
