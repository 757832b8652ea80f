"""Candidates for an index kind, on real sentence vectors: what decided the table behind `auto`.

    python benchmarks/kinds.py [--count 200000] [--only FACTORY ...] [--recall 0.95] [--filters] [--dot]
                               [--base FILE.npy --queries FILE.npy] [--json FILE]

Each candidate is built in a process of its own (seconds to train and to add, peak memory, size), opened as a collection
opens it, tuned on one half of the held-out queries to the recall asked for and measured on the other half: recall@10
against exact search, latency of one query and queries/s in batches of 64, in interleaved rounds. All on one thread, whose
own seconds are counted: other work on the machine changes those least. Every approximate kind finds WINDOW rows, which are ranked by the exact vectors of the mapped file, as a search does it.
Latencies are those of FAISS with the re-ranking, without the collection around it.

--filters: the same under row sets of half, 3 % and 0.1 % of the rows: drawn at random, of topics far from each query,
of topics near to it. --dot: the same vectors with lengths drawn from a lognormal, as of models that don't normalise.

Axes: N rows, Q queries, D dimensions, K = 10 results.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

K = 10
BATCH = 64
CHUNK = 16_384
ROUNDS, A_ROUND = 5, 100
Vectors = NDArray[np.float32]


EF = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
NPROBE = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192, 256)


@dataclass(frozen=True, slots=True)
class Candidate:
    """factory: FAISS's index-factory string. window: rows found for the exact ranking, 0 where the index is exact.

    knob: the search parameter that is tuned, over `values`. train: rows of the training sample for each list.
    """

    factory: str
    window: int = 256
    knob: str = ""
    values: tuple[int, ...] = ()
    train: int = 64

    @classmethod
    def of(cls, factory: str, window: int = 256) -> "Candidate":
        """With the knob that such an index has."""
        knob, values = ("nprobe", NPROBE) if "IVF" in factory else ("efSearch", EF) if "HNSW" in factory else ("", ())
        exact = factory.rsplit(",", 1)[-1] == "Flat"
        return cls(factory, 0 if exact else window, knob, values)

    @property
    def name(self) -> str:
        """As the tables call it."""
        return f"{self.factory} /{self.window}" if self.window else self.factory

    @property
    def mapped(self) -> bool:
        """Whether FAISS reads it without loading it: no fast-scan layout."""
        return "fs" not in self.factory


def candidates(count: int, named: Sequence[str]) -> Iterator[Candidate]:
    """Those named, else all that were looked at: inverted files where a list gets 100 rows."""
    if named:
        yield from (Candidate.of(factory, window) for factory in named for window in (100, 256))
        return
    yield Candidate.of("Flat")
    for code in ("RaBitQ", "RaBitQfs", "PQ64x4fs"):
        yield from (Candidate.of(code, window) for window in (100, 256))
    yield from (Candidate.of(code, 100) for code in ("RR,RaBitQ", "RaBitQ2", "RaBitQ4", "RaBitQfs4", "SQ4", "SQ8"))
    for lists in (256, 512, 1024, 2048, 4096):
        if count >= 100 * lists:
            for code in ("Flat", "SQ8", "SQ4", "PQ64x4fs", "RaBitQ", "RaBitQ4", "RaBitQfs"):
                yield Candidate.of(f"IVF{lists},{code}")
    yield from (Candidate.of(graph, window) for graph in ("HNSW32", "HNSW32,SQ8") for window in (32, 256))


def main() -> None:
    """Read the arguments, prepare the vectors, print the tables."""
    if sys.argv[1:2] == ["--build"]:
        print(json.dumps(build(**json.loads(sys.argv[2]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--only", nargs="*", default=[], help="index-factory strings instead of all")
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
        kinds = [Opened.make(one, data, folder) for one in candidates(len(data.base), arguments.only)]
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


def kth_scores(base: Vectors, queries: Vectors) -> NDArray[np.float32]:
    """The score of each query's K-th best row, float32 (Q,): what scores as much is right, whichever row it is."""
    scores, _ = faiss.knn(queries, base, K, metric=faiss.METRIC_INNER_PRODUCT)
    return scores[:, -1]


def build(factory: str, train: int, base: str, dimension: int, path: str) -> dict[str, float]:
    """Train, fill and write one index over the file `base`: seconds, sizes, the peak of memory above the imports."""
    faiss.omp_set_num_threads(1)
    before = peak_mb()
    count = Path(base).stat().st_size // (4 * dimension)
    index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    begin = time.thread_time()
    if not index.is_trained:
        index.train(sample(base, dimension, count, train * getattr(index, "nlist", 256)))
    trained = time.thread_time()
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efConstruction = 40
    for part in chunks(base, dimension):
        index.add(part)
    added = time.thread_time()
    faiss.write_index(index, path)
    return {
        "train_s": trained - begin,
        "add_s": added - trained,
        "write_s": time.thread_time() - added,
        "peak_mb": peak_mb() - before,
        "size_mb": Path(path).stat().st_size / 2**20,
    }


def peak_mb() -> float:
    """Peak resident memory of this process; the kernel's ru_maxrss would start from the parent's."""
    return int(re.findall(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text("utf-8"))[0]) / 1024


def chunks(base: str, dimension: int) -> Iterator[Vectors]:
    """The file piece by piece, read and not mapped: mapped pages would count as memory."""
    with Path(base).open("rb") as file:
        while len(part := np.fromfile(file, dtype="<f4", count=CHUNK * dimension)):
            yield part.reshape(-1, dimension)


def sample(base: str, dimension: int, count: int, wanted: int) -> Vectors:
    """So many rows, evenly from all of the file, in one array: a list of parts put together would take them twice."""
    chosen = np.sort(np.random.default_rng(0).choice(count, min(wanted, count), replace=False))
    out = np.empty((len(chosen), dimension), dtype=np.float32)
    for number, part in enumerate(chunks(base, dimension)):
        first, last = np.searchsorted(chosen, (number * CHUNK, (number + 1) * CHUNK))
        out[first:last] = part[chosen[first:last] - number * CHUNK]
    return out


class Opened:
    """One candidate as it is searched. setting: the value of its knob."""

    def __init__(self, candidate: Candidate, index: Any, base: Vectors, figures: dict[str, Any]) -> None:  # noqa: ANN401
        self.candidate, self.index, self.base, self.figures = candidate, index, base, figures
        self.setting: int | None = None

    @classmethod
    def make(cls, candidate: Candidate, data: Data, folder: Path) -> "Opened":
        """Build it in a child and open its file."""
        path = folder / f"{candidate.factory}.faiss"
        order = {
            "factory": candidate.factory, "train": candidate.train, "base": str(data.path),
            "dimension": data.base.shape[1], "path": str(path),
        }  # fmt: skip
        if not path.exists():
            child = subprocess.run(
                [sys.executable, __file__, "--build", json.dumps(order)], check=True, capture_output=True, text=True
            )
            path.with_suffix(".json").write_text(child.stdout, "utf-8")
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if candidate.mapped else 0)
        built = json.loads(path.with_suffix(".json").read_text("utf-8"))
        figures = {"kind": candidate.name, "rows": len(data.base), **built}
        print(figures, file=sys.stderr, flush=True)
        return cls(candidate, index, data.base, figures)

    def find(self, queries: Vectors, selector: Any = None) -> list[NDArray[np.int64]]:  # noqa: ANN401
        """The rows that each query would be answered with, best first."""
        wanted = self.candidate.window or K
        _, found = self.index.search(queries, wanted, params=self.parameters(selector))
        if not self.candidate.window:
            return [rows[rows >= 0] for rows in found]
        return [ranked(self.base, query, rows[rows >= 0]) for query, rows in zip(queries, found, strict=True)]

    def parameters(self, selector: Any = None) -> Any:  # noqa: ANN401
        """FAISS's search parameters for this setting."""
        index = self.index
        if isinstance(index, faiss.IndexHNSW):
            return faiss.SearchParametersHNSW(efSearch=self.setting or 16, sel=selector)
        if isinstance(index, faiss.IndexIVFRaBitQ):
            return faiss.IVFRaBitQSearchParameters(nprobe=self.setting or 1, sel=selector, qb=4)
        if isinstance(index, faiss.IndexIVF):
            return faiss.SearchParametersIVF(nprobe=self.setting or 1, sel=selector)
        if isinstance(index, faiss.IndexRaBitQ):
            return faiss.RaBitQSearchParameters(sel=selector, qb=4)
        return faiss.SearchParameters(sel=selector) if selector is not None else None


def ranked(base: Vectors, query: Vectors, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The K best of these rows by their exact vectors, best first."""
    scores = base[rows] @ query
    best = np.argpartition(-scores, K)[:K] if len(rows) > K else np.arange(len(rows))
    return rows[best[np.argsort(-scores[best])]]


def recall(base: Vectors, queries: Vectors, found: Sequence[NDArray[np.int64]], truth: NDArray[np.float32]) -> float:
    """Mean share of the K that score as high as the K-th best, ties being equally right."""
    hits = [
        np.count_nonzero(base[rows] @ query >= least - 1e-5)
        for query, rows, least in zip(queries, found, truth, strict=True)
    ]
    return float(np.mean(np.minimum(hits, K)) / K)


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


def seconds(work: Callable[[], object]) -> float:
    """How long it took."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


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


SHARES = (0.5, 0.03, 0.001)
# Passing rows that an inverted file's lists must hold, in multiples of the rows that it scans without a filter.
COVERED = (1, 2, 4, 10_000)
FILTERED, TOPICS = 60, 256
Rows = NDArray[np.bool_]
Answer = Callable[[Vectors, "RowSet"], NDArray[np.int64]]


class RowSet:
    """Rows that pass a filter, with what is made of them once for a filter and a generation, in no query's time."""

    def __init__(self, mask: Rows) -> None:
        self.mask = mask
        self.rows = np.flatnonzero(mask)
        self.bits = np.packbits(mask, bitorder="little")
        self.selector = faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(self.bits))
        self.in_lists: dict[str, NDArray[np.int64]] = {}

    @classmethod
    def of(cls, count: int, rows: NDArray[np.int64]) -> "RowSet":
        """These of `count` rows."""
        mask = np.zeros(count, dtype=np.bool_)
        mask[rows] = True
        return cls(mask)


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


def row_sets(base: Vectors, query: Vectors, topics: Topics) -> Iterator[tuple[str, float, RowSet, Vectors]]:
    """Rows drawn at random, of topics far from the query, near to it: how, their share, they, their K-th best score."""
    scores = base @ query
    random, order = np.random.default_rng(0), topics.order(query)
    for share in SHARES:
        kept = int(len(base) * share)
        drawn = random.choice(len(base), kept, replace=False)
        for what, rows in (("random", drawn), ("far", order[-kept:]), ("near", order[:kept])):
            yield what, share, RowSet.of(len(base), rows), np.partition(scores[rows], -K)[-K:][:1]


def filtered_ways(kinds: Sequence[Opened], base: Vectors) -> Iterator[tuple[str, Answer]]:
    """Exactly over the rows (copied out, or by a selector), by a selector, by as many lists as it takes."""
    yield "exact, rows copied", lambda query, rows: ranked(base, query, rows.rows)
    yield "exact, selector", lambda query, rows: exact_selected(base, query, rows)
    for kind in kinds:
        name = kind.candidate.name
        if not isinstance(kind.index, faiss.IndexIVF):
            if kind.candidate.mapped:
                yield name, lambda query, rows, kind=kind: kind.find(query[None], rows.selector)[0]
            continue
        lists = lists_of_rows(kind.index)
        scanned = (kind.setting or 1) * len(base) // kind.index.nlist
        for times in COVERED:
            yield (
                f"{name} until {times} x {scanned}",
                lambda query, rows, kind=kind, lists=lists, n=times * scanned: cover(kind, lists, query, rows, n),
            )


def exact_selected(base: Vectors, query: Vectors, rows: RowSet) -> NDArray[np.int64]:
    """FAISS's exact search over the mapped vectors with a bitmap of rows."""
    scores, found = np.empty((1, K), np.float32), np.empty((1, K), np.int64)
    faiss.knn_inner_product(
        faiss.swig_ptr(query), faiss.swig_ptr(base), base.shape[1], 1, len(base), K,
        faiss.swig_ptr(scores), faiss.swig_ptr(found), rows.selector,
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


def cover(kind: Opened, lists: NDArray[np.int32], query: Vectors, rows: RowSet, wanted: int) -> NDArray[np.int64]:
    """Search an inverted file in its lists, nearest first, until they hold `wanted` passing rows."""
    index, window = kind.index, kind.candidate.window or K
    if kind.candidate.name not in rows.in_lists:
        rows.in_lists[kind.candidate.name] = np.bincount(lists[rows.rows], minlength=index.nlist)
    passing = rows.in_lists[kind.candidate.name]
    scores, order = index.quantizer.search(query[None], index.nlist)
    some = passing[order[0]] > 0
    order, scores = order[0][some], scores[0][some]
    last = int(np.searchsorted(np.cumsum(passing[order]), wanted)) + 1
    last = min(max(last, kind.setting or 1), len(order))
    found, approximate = np.empty(window, np.int64), np.empty(window, np.float32)
    parameters = kind.parameters(rows.selector)
    parameters.nprobe = last
    # The wrapper in Python refuses parameters here; what it wraps obeys them, and keeps none of the arrays alive.
    order, scores = order[:last].copy(), scores[:last].copy()
    index.search_preassigned_c(
        1, faiss.swig_ptr(query), window, faiss.swig_ptr(order), faiss.swig_ptr(scores),
        faiss.swig_ptr(approximate), faiss.swig_ptr(found), False, parameters,  # noqa: FBT003
    )  # fmt: skip
    found = found[found >= 0]
    return ranked(kind.base, query, found)


if __name__ == "__main__":
    main()
