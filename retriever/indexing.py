"""Making a FAISS index over the rows of a build: trained, filled, tuned, measured, written.

Axes: Q queries, N rows, D dimensions. Everything random is seeded, so that the same rows give the same index.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from retriever.approximate import NONE, ApproximateIndex, IndexEntry, IndexFile
from retriever.dense import inner_products, load_faiss, nearest
from retriever.gpu_training import filling, train
from retriever.kinds import Plan
from retriever.owner import Owner
from retriever.rows import RowSet
from retriever.vectors import VectorSnapshot

SEED = 0
# Rows added between two looks at whether to go on (65,536 x 512 x 4 bytes = 134 MB).
CHUNK = 65_536
# Stored vectors that stand in for queries where none were given.
SELF_QUERIES = 256
PROBES = 8
# What is ranked again by exact vectors at each search: the window of documents and its slack (search.py).
RERANKED = 256
RECALL_AT = 10
# Tried in this order until the recall asked for is reached.
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)

# Called between steps; raises Stopped.
Check = Callable[[], None]


class Stopped(Exception):
    """Whoever asked for the index doesn't want it any more."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a build to index. live: those whose units are still there. threads, gpu: what may work on them."""

    folder: Path
    snapshot: VectorSnapshot
    live: RowSet
    threads: int
    gpu: Owner | None = None

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Float32 (N, D)."""
        return self.snapshot.vectors


@dataclass(frozen=True, slots=True)
class Trial:
    """What recall is measured on: queries (Q, D), the rows nearest to each int64 (Q, 10), -1 where there are fewer,
    and the row that each query is itself, int64 (Q,), -1 where it is none.
    """

    rows: Rows
    queries: NDArray[np.float32]
    truth: NDArray[np.int64]
    own: NDArray[np.int64]
    of: Literal["queries", "self-query"]
    checksum: int

    @classmethod
    def make(cls, rows: Rows, queries: NDArray[np.float32]) -> "Trial":
        """On these queries, else on sampled vectors of the rows themselves, each of which then doesn't count."""
        if len(queries):
            _, truth = nearest(queries, rows.vectors, RECALL_AT, allowed=rows.live.mask)
            return cls(rows, queries, truth, np.full(len(queries), -1, dtype=np.int64), "queries", checksum_of(queries))
        own = _sample(rows.live.slots, SELF_QUERIES)
        sampled = rows.vectors[own]
        _, found = nearest(sampled, rows.vectors, RECALL_AT + 1, allowed=rows.live.mask)
        others = np.argsort(found == own[:, None], axis=1, kind="stable")[:, :RECALL_AT]
        return cls(rows, sampled, np.take_along_axis(found, others, axis=1), own, "self-query", 0)

    def recall(self, index: ApproximateIndex, parameter: Mapping[str, int]) -> float:
        """The share of the true neighbours that a search finds; rows that tie with the last of them count as found."""
        found = index.search(self.queries, RERANKED, self.rows.live, parameter)
        found[found == self.own[:, None]] = NONE
        last = np.where(self.truth == NONE, np.inf, inner_products(self.queries, self.rows.vectors, self.truth)).min(
            axis=1
        )
        reached = np.count_nonzero(inner_products(self.queries, self.rows.vectors, found) >= last[:, None], axis=1)
        wanted = np.count_nonzero(self.truth != NONE, axis=1)
        return float(np.mean(np.minimum(reached, wanted) / np.maximum(wanted, 1))) if len(wanted) else 1.0


def checksum_of(queries: NDArray[np.float32]) -> int:
    """Tells evaluation queries (Q, D) apart; 0 without any."""
    return int(crc32c(queries.tobytes())) if len(queries) else 0


def build_index(plan: Plan, rows: Rows, trial: Trial, recall: float, check: Check) -> IndexEntry:
    """Train and fill what is planned, tune it to the recall asked for (at 10), write it. Raises Stopped, OSError."""
    assert plan.factory is not None
    made = {"main": _filled(plan.factory, plan.trained, rows, check)}
    if plan.filtered is not None:
        made["filtered"] = _filled(plan.filtered, plan.trained, rows, check)
    return _written(plan.kind, plan.factory, made, rows, trial, recall, check)


def extend_index(entry: IndexEntry, rows: Rows, trial: Trial, recall: float, check: Check) -> IndexEntry:
    """An index with the rows behind its own added. Raises Stopped, OSError."""
    faiss = load_faiss()
    # Not mapped: adding to a mapped index ends the process.
    made = {role: faiss.read_index(str(rows.folder / file.name)) for role, file in entry.files.items()}
    for index in made.values():
        _fill(index, rows, entry.rows, check)
    return _written(entry.kind, entry.factory, made, rows, trial, recall, check)


def _filled(factory: str, trained: int, rows: Rows, check: Check) -> Any:  # noqa: ANN401 - FAISS has no types
    faiss = load_faiss()
    index = faiss.index_factory(rows.vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        # FAISS would draw a sample of the sample; what is planned is what it gets.
        ivf.cp.max_points_per_centroid = max(ivf.cp.max_points_per_centroid, trained // ivf.nlist + 1)
        ivf.cp.min_points_per_centroid = 1
    faiss.omp_set_num_threads(rows.threads)
    if not index.is_trained:
        train(index, rows.vectors[_sample(rows.live.slots, trained)], rows.gpu)
        check()
    _fill(index, rows, 0, check)
    return index


def _fill(index: Any, rows: Rows, start: int, check: Check) -> None:  # noqa: ANN401
    load_faiss().omp_set_num_threads(rows.threads)
    with filling(index, rows.gpu) as add:
        for first in range(start, len(rows.vectors), CHUNK):
            check()
            add(rows.vectors[first : first + CHUNK])


def _written(
    kind: str, factory: str, made: Mapping[str, Any], rows: Rows, trial: Trial, recall: float, check: Check
) -> IndexEntry:
    names = {role: f"{rows.snapshot.build.build}.{os.urandom(4).hex()}.faiss" for role in made}
    files = {role: _write(index, rows.folder / names[role]) for role, index in made.items()}
    entry = IndexEntry(kind, factory, len(rows.vectors), {}, 0.0, trial.of, trial.checksum, {}, files)
    parameter, measured = _tuned(ApproximateIndex(entry, made, rows.vectors), trial, recall, check)
    entry = replace(entry, parameter=parameter, recall=measured)
    places = np.linspace(0, len(rows.vectors) - 1, PROBES, dtype=np.int64)
    probes = ApproximateIndex(entry, made, rows.vectors).probe(sorted(set(places.tolist())))
    return replace(entry, probes=probes)


def _write(index: Any, path: Path) -> IndexFile:  # noqa: ANN401
    faiss = load_faiss()
    checksum = 0
    # Not by its name: FAISS doesn't look whether closing the file, which writes the end of it, went well.
    with path.open("wb") as file:

        def write(content: bytes) -> None:
            nonlocal checksum
            checksum = int(crc32c(content, checksum))
            file.write(content)

        faiss.write_index(index, faiss.PyCallbackIOWriter(write))
        file.flush()
        os.fsync(file.fileno())
        return IndexFile(path.name, file.tell(), checksum)


def _tuned(index: ApproximateIndex, trial: Trial, recall: float, check: Check) -> tuple[dict[str, int], float]:
    """The cheapest parameter that reaches the recall, else the one that comes nearest; and what it reaches."""
    best: tuple[dict[str, int], float] = ({}, -1.0)
    for parameter in _parameters(index):
        check()
        measured = trial.recall(index, parameter)
        if measured > best[1]:
            best = (parameter, measured)
        if measured >= recall:
            break
    return best


def _parameters(index: ApproximateIndex) -> Iterator[dict[str, int]]:
    """What there is to tune, cheapest first."""
    lists, graph = index.number_of_lists, index.is_graph
    if graph:
        yield from ({"efSearch": step} for step in STEPS if step >= RERANKED)
    elif lists is not None:
        yield from ({"nprobe": step} for step in STEPS if step <= lists)
    else:
        yield {}


def _sample(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most so many of these rows, ascending."""
    if len(rows) <= count:
        return rows
    return np.sort(np.random.default_rng(SEED).choice(rows, count, replace=False))
