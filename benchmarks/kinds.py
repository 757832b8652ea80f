"""Candidates for an index kind, on real sentence vectors: what decided the table behind `auto`.

    python benchmarks/kinds.py [--count 200000] [--only FACTORY ...] [--recall 0.95] [--filters] [--dot]
                               [--base FILE.npy --queries FILE.npy] [--keep FOLDER] [--json FILE]

Each candidate is built in a process of its own (seconds to train and to add, peak memory, size), opened as a collection
opens it, tuned on one half of the held-out queries to the recall asked for and measured on the other half: recall@10
against exact search, latency of one query and queries/s in batches of 64, in interleaved rounds. All on one thread, and
in its own seconds: other work on the machine changes those least. Every approximate kind finds a window of rows, which
are ranked by the exact vectors of the mapped file, as a search does it; the collection around that isn't measured.

--filters: the same under row sets of half, 3 % and 0.1 % of the rows: drawn at random, of topics far from each query,
of topics near to it. --dot: the same vectors with lengths drawn from a lognormal, as of models that don't normalise.

Axes: N rows, Q queries, D dimensions, K = 10 results.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
from _kinds import CHUNK, K, Opened, Vectors, candidates, kth_scores, ranked, recall, seconds
from numpy.typing import NDArray

BATCH = 64
ROUNDS, A_ROUND = 5, 100
SHARES = (0.5, 0.03, 0.001)
# Under a filter each round over an inverted file covers so many times the passing rows, and re-ranks twice the window.
GROWTH, WIDER = 4, 2
FILTERED, TOPICS = 60, 256
Rows = NDArray[np.bool_]
Answer = Callable[[Vectors, "RowSet"], NDArray[np.int64]]


def main() -> None:
    """Read the arguments, prepare the vectors, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--only", nargs="*", default=[], help="index-factory strings instead of the serious ones")
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--filters", action="store_true")
    parser.add_argument("--dot", action="store_true")
    parser.add_argument("--keep", type=Path, help="build there, and build nothing again that is there already")
    parser.add_argument("--base", type=Path)
    parser.add_argument("--queries", type=Path)
    parser.add_argument("--json", type=Path, help="append every figure to this file")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        data = Data.prepare(arguments, folder)
        wanted = candidates(*data.base.shape, arguments.only)
        kinds = [Opened.make(one, data.base, data.path, folder) for one in wanted]
        measure(kinds, data, arguments.recall)
        report = [kind.figures for kind in kinds]
        print(table(report))
        if arguments.filters:
            filtered = list(measure_filtered(kinds, data))
            print(table(filtered))
            report += filtered
    if arguments.json:
        with arguments.json.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in report)


@dataclass(frozen=True, slots=True)
class Data:
    """path: the file that the processes that build read, of which base (N, D) is the map."""

    path: Path
    base: Vectors
    tuning: Vectors
    queries: Vectors
    tuning_truth: NDArray[np.float32]
    truth: NDArray[np.float32]

    @classmethod
    def prepare(cls, arguments: argparse.Namespace, folder: Path) -> "Data":
        """The vectors asked for, and the K-th best score of each query."""
        if arguments.base:
            base = np.load(arguments.base, mmap_mode="r")[: arguments.count]
            queries = np.load(arguments.queries)
        else:
            from _sentences import sentence_vectors

            base, queries = sentence_vectors(arguments.count)
        path = folder / "base.f32"
        lengths = np.random.default_rng(1).lognormal(0, 0.3, len(base)) if arguments.dot else np.ones(len(base))
        if not path.exists():
            with path.open("wb") as file:
                for start in range(0, len(base), CHUNK):
                    part = base[start : start + CHUNK] * lengths[start : start + CHUNK, None]
                    file.write(part.astype("<f4").tobytes())
        base = np.memmap(path, dtype="<f4", mode="r").reshape(-1, queries.shape[1]).view(np.ndarray)
        scores = kth_scores(base, queries)
        return cls(path, base, queries[0::2], queries[1::2], scores[0::2], scores[1::2])


def tune(kind: Opened, data: Data, wanted: float) -> None:
    """The smallest setting that reaches the recall on the tuning half."""
    for value in kind.candidate.values:
        kind.setting = value
        if recall(data.base, data.tuning, kind.find(data.tuning), data.tuning_truth) >= wanted:
            return


def measure(kinds: Sequence[Opened], data: Data, wanted: float) -> None:
    """Tune all, then time all in turns; add to their figures."""
    for kind in kinds:
        tune(kind, data, wanted)
        found = kind.find(data.queries)
        kind.figures["setting"] = kind.setting
        kind.figures["recall"] = recall(data.base, data.queries, found, data.truth)
    single: dict[str, list[float]] = {kind.candidate.name: [] for kind in kinds}
    batched: dict[str, list[float]] = {kind.candidate.name: [] for kind in kinds}
    for turn in range(ROUNDS):
        queries = data.queries[turn * A_ROUND : (turn + 1) * A_ROUND]
        for kind in kinds:
            single[kind.candidate.name] += [seconds(lambda: kind.find(query[None])) for query in queries]  # noqa: B023
            batched[kind.candidate.name].append(seconds(lambda: kind.find(data.queries[:BATCH])))  # noqa: B023
    for kind in kinds:
        kind.figures |= milliseconds(single[kind.candidate.name])
        kind.figures["batch_qps"] = BATCH / median(batched[kind.candidate.name])


def milliseconds(times: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {"median_ms": 1000 * float(np.median(times)), "p95_ms": 1000 * float(np.percentile(times, 95))}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names)]
    lines += [
        [f"{row[n]:.3f}" if isinstance(row.get(n), float) else str(row.get(n, "")) for n in names] for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


class RowSet:
    """Rows that pass a filter, with what is made of them once for a filter and a generation, in no query's time."""

    def __init__(self, mask: Rows) -> None:
        self.mask = mask
        self.rows = np.flatnonzero(mask)
        self.bits = np.packbits(mask, bitorder="little")
        self.selector = faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(self.bits))
        self.listed = faiss.IDSelectorArray(self.rows)
        self.in_lists: dict[str, NDArray[np.int64]] = {}

    @classmethod
    def of(cls, count: int, rows: NDArray[np.int64]) -> "RowSet":
        """These of `count` rows."""
        mask = np.zeros(count, dtype=np.bool_)
        mask[rows] = True
        return cls(mask)


class Topics:
    """What sentences are about, by k-means: a filter that has to do with the query is by topic, tenant or language.

    A threshold on the query's own score is no such filter: the best rows below it are as good as thousands of others,
    and nothing but exact search tells them apart (RaBitQ found 1 to 16 % of them).
    """

    def __init__(self, base: Vectors) -> None:
        means = faiss.Kmeans(base.shape[1], TOPICS, niter=5, spherical=True, seed=7)
        means.train(base[:: max(1, len(base) // (64 * TOPICS))])
        self.centroids = means.centroids
        self.of_rows = np.concatenate(
            [means.index.search(base[start : start + CHUNK], 1)[1][:, 0] for start in range(0, len(base), CHUNK)]
        )

    def order(self, query: Vectors) -> NDArray[np.int64]:
        """All rows, those of the topic nearest to the query first."""
        places = np.argsort(np.argsort(-(self.centroids @ query)))
        return np.argsort(places[self.of_rows], kind="stable")


def measure_filtered(kinds: Sequence[Opened], data: Data) -> Iterator[dict[str, Any]]:
    """Recall and latency of every way to answer under a filter, for each share and each way to draw the rows."""
    ways = dict(filtered_ways(kinds, data.base))
    topics = Topics(data.base)
    got: dict[tuple[str, float, str], list[tuple[float, float]]] = {}
    for query in data.queries[:FILTERED]:
        for what, share, rows, truth in row_sets(data.base, query, topics):
            for name, answer in ways.items():
                answer(query, rows)
                begin = time.thread_time()
                found = answer(query, rows)
                took = time.thread_time() - begin
                right = recall(data.base, query[None], [found], truth)
                got.setdefault((what, share, name), []).append((right, took))
    for (what, share, name), pairs in got.items():
        rights, times = zip(*pairs, strict=True)
        yield {
            "rows pass": what, "share": share, "way": name, "rows": len(data.base),
            "recall": float(np.mean(rights)), **milliseconds(times),
        }  # fmt: skip


def filtered_ways(kinds: Sequence[Opened], base: Vectors) -> Iterator[tuple[str, Answer]]:
    """Exactly over the rows, in three ways; by a selector; by as many lists as it takes."""
    yield "exact, rows copied", lambda query, rows: ranked(base, query, rows.rows)
    yield "exact, bitmap", lambda query, rows: exact_selected(base, query, rows.selector)
    yield "exact, row numbers", lambda query, rows: exact_selected(base, query, rows.listed)
    for kind in kinds:
        name = kind.candidate.name
        if not isinstance(kind.index, faiss.IndexIVF):
            if kind.candidate.mapped:
                yield name, lambda query, rows, kind=kind: kind.find(query[None], rows.selector)[0]
            continue
        lists = lists_of_rows(kind.index)
        for rounds in (1, 20):
            yield (
                f"{name}, {'one round' if rounds == 1 else 'rounds'}",
                lambda query, rows, kind=kind, lists=lists, n=rounds: in_rounds(kind, lists, query, rows, n),
            )


def exact_selected(base: Vectors, query: Vectors, selector: Any) -> NDArray[np.int64]:  # noqa: ANN401
    """FAISS's exact search over the mapped vectors among some rows."""
    scores, found = np.empty((1, K), np.float32), np.empty((1, K), np.int64)
    faiss.knn_inner_product(
        faiss.swig_ptr(query), faiss.swig_ptr(base), base.shape[1], 1, len(base), K,
        faiss.swig_ptr(scores), faiss.swig_ptr(found), selector,
    )  # fmt: skip
    return found[0][found[0] >= 0]


def lists_of_rows(index: Any) -> NDArray[np.int32]:  # noqa: ANN401
    """Which list holds each row, int32 (N,)."""
    lists = np.empty(index.ntotal, dtype=np.int32)
    for number in range(index.nlist):
        size = index.invlists.list_size(number)
        if size:
            lists[faiss.rev_swig_ptr(index.invlists.get_ids(number), size)] = number
    return lists


def in_rounds(kind: Opened, lists: NDArray[np.int32], query: Vectors, rows: RowSet, rounds: int) -> NDArray[np.int64]:
    """Search an inverted file in its lists, nearest first, until a round changes none of the best K.

    The first covers as many passing rows as a search without a filter scans rows; later ones visit new lists only.
    """
    index, window = kind.index, kind.candidate.window or K
    if kind.candidate.factory not in rows.in_lists:
        rows.in_lists[kind.candidate.factory] = np.bincount(lists[rows.rows], minlength=index.nlist)
    passing = rows.in_lists[kind.candidate.factory]
    scores, order = index.quantizer.search(query[None], index.nlist)
    some = passing[order[0]] > 0
    order, scores = order[0][some], scores[0][some]
    covered = np.cumsum(passing[order])
    wanted = (kind.setting or 1) * index.ntotal // index.nlist
    best, first = np.empty(0, np.int64), 0
    for _ in range(rounds):
        last = min(int(np.searchsorted(covered, wanted)) + 1, len(order))
        found = probe(kind, query, order[first:last], scores[first:last], rows, window)
        better = ranked(kind.base, query, np.concatenate([best, found]))
        if last == len(order) or np.array_equal(better, best):
            return better
        best, first, wanted, window = better, last, wanted * GROWTH, window * WIDER
    return best


def probe(
    kind: Opened, query: Vectors, lists: NDArray[np.int64], scores: Vectors, rows: RowSet, window: int
) -> NDArray[np.int64]:
    """The best rows of these lists by their codes."""
    # The wrapper in Python refuses parameters here; what it wraps obeys them, and keeps none of the arrays alive.
    lists, scores = lists.copy(), scores.copy()
    found, approximate = np.empty(window, np.int64), np.empty(window, np.float32)
    parameters = kind.parameters(rows.selector)
    parameters.nprobe = len(lists)
    kind.index.search_preassigned_c(
        1, faiss.swig_ptr(query), window, faiss.swig_ptr(lists), faiss.swig_ptr(scores),
        faiss.swig_ptr(approximate), faiss.swig_ptr(found), False, parameters,  # noqa: FBT003
    )  # fmt: skip
    return found[found >= 0]


def row_sets(base: Vectors, query: Vectors, topics: Topics) -> Iterator[tuple[str, float, RowSet, Vectors]]:
    """Rows drawn at random, of topics far from the query, near to it: how, their share, they, their K-th best score."""
    scores = base @ query
    random, order = np.random.default_rng(0), topics.order(query)
    for share in SHARES:
        kept = int(len(base) * share)
        drawn = random.choice(len(base), kept, replace=False)
        for what, rows in (("random", drawn), ("far", order[-kept:]), ("near", order[:kept])):
            yield what, share, RowSet.of(len(base), rows), np.partition(scores[rows], -K)[-K:][:1]


if __name__ == "__main__":
    main()
