"""What a collection costs beside FAISS by itself: opening, searching, exact search, one upsert, building the index.

    python benchmarks/collection.py [first] [search] [exact] [upsert] [index] [--vectors 200000] [--rounds 5] [--cpu]

One collection of the encoder `multilingual`, whose documents bring their vectors: real sentences where POLYSEEK_DATA
holds them (see _sentences.py; beyond what there is, the same again, a little moved), else random vectors.

first: from opening in a fresh process to the first answer. search: whole hits against FAISS searching the same index
file with the same parameter and ranking the same number of candidates by exact vectors. exact: `nearest` against the
better of FAISS's two paths. upsert: of one document with its vector, with the search that sees it, less an ordinary
search. index: building it against FAISS building the same kind. What is compared takes turns. Exits with 1 where a goal
is missed. With --cpu, search, exact and index count the processor's time of the calling thread, which is all that they
use: for a machine that has other work.

Axes: N rows, Q queries, D dimensions, K = 10 results.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from retriever import Collection, Document, Encoder
from retriever.errors import PolyseekError
from retriever.requests import Hit, SearchRequest

K = 10
BATCH = 5_000
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# A search ranks so many candidates by exact vectors: its window of 200 documents and their slack.
RERANKED = 256
MOVED = 0.3
# From here on row by row isn't tried: 64 queries over 200,000 x 512 took it 5 times as long as by products, and the
# distance grows.
PRODUCTS_ONLY = 64
# Pairs of a row and a query that are compared once a round: some 20 ms.
ONE_ROUND = 200_000
ALWAYS, NEVER = 1, 2**30
GOALS = {"first": 1.0, "one": 0.3, "batch": 0.95, "exact": 1.1, "upsert": 15.0, "index": 1.2}

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Data:
    """Texts and vectors (N, D) of documents, and queries (512, D)."""

    texts: Sequence[str]
    vectors: Vectors
    queries: Vectors

    @classmethod
    def make(cls, count: int) -> "Data":
        """So many documents."""
        import os

        random = np.random.default_rng(0)
        if "POLYSEEK_DATA" not in os.environ:
            print("random vectors: POLYSEEK_DATA is unset")
            return cls([f"sentence number {i}" for i in range(count)], _random(random, count), _random(random, 512))
        from _sentences import sentence_vectors, sentences

        base, _ = sentences()
        vectors, queries = sentence_vectors(min(count, len(base)), 512)
        texts = [base[i % len(base)].text for i in range(count)]
        if count > len(base):
            again = vectors[np.arange(len(base), count) % len(base)]
            moved = again + MOVED * _random(random, len(again), vectors.shape[1])
            moved /= np.linalg.norm(moved, axis=1, keepdims=True)
            vectors = np.concatenate([vectors, moved])
        return cls(texts, vectors, queries)


def _random(random: np.random.Generator, count: int, dimension: int = 512) -> Vectors:
    vectors = random.standard_normal((count, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


@dataclass(frozen=True, slots=True)
class Bench:
    """What every part works on."""

    folder: Path
    data: Data
    rounds: int
    clock: Callable[[], float]

    def seconds(self, work: Callable[[], object]) -> float:
        """How long it took by the clock asked for."""
        begin = self.clock()
        work()
        return self.clock() - begin

    def open(self) -> Collection:
        """The built collection."""
        return Collection.open(self.folder, encoder=Encoder.load("multilingual"), background=False)

    @classmethod
    def build(cls, folder: Path, count: int, rounds: int, clock: Callable[[], float]) -> "Bench":
        """Put the documents, build the index."""
        data = Data.make(count)
        started = time.perf_counter()
        with Collection.create(folder, encoder=Encoder.load("multilingual"), background=False) as collection:
            for start in range(0, count, BATCH):
                part = range(start, min(start + BATCH, count))
                collection.upsert([_document(f"d{i}", data.texts[i], data.vectors[i]) for i in part])
            put = time.perf_counter() - started
            collection.optimize()
            built = time.perf_counter() - started - put
            info = collection.info()
        print(
            f"{count} documents put in {put:.0f} s, optimized in {built:.0f} s: {info.kind}, recall {info.recall:.3f}"
        )
        return cls(folder, data, rounds, clock)


def _document(identifier: str, text: str, vector: Vectors) -> Document:
    return Document(id=identifier, text=text, language="en", vector=np.ascontiguousarray(vector))


def seconds(work: Callable[[], object]) -> float:
    """How long it took."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def verdict(name: str, value: float, goal: float, *, least: bool = False) -> bool:
    """Print one line; whether the goal is reached."""
    reached = value >= goal if least else value <= goal
    print(f"{name}: {value:.3f} (goal {'>=' if least else '<='} {goal:g}): {'reached' if reached else 'MISSED'}")
    return reached


def one_thread_faiss() -> Any:  # noqa: ANN401 - FAISS's types lack most of it
    """FAISS on one thread, as a collection uses it."""
    import faiss

    faiss.omp_set_num_threads(1)
    return faiss


# -- first answer

FIRST = """
import sys, time
from retriever import Collection, Encoder
from retriever.requests import SearchRequest
import retriever.search, retriever.view  # what a service has imported before it opens a collection
folder, text = sys.argv[1:]
encoder = Encoder.load("multilingual")
vector = encoder.encode_queries(["warm up"]).vectors[0].tolist()
started = time.perf_counter()
collection = Collection.open(folder, encoder=encoder)
[result] = collection.search_many([SearchRequest(text=text) if text else SearchRequest(vector=vector)])
print(time.perf_counter() - started, len(result.hits))
"""


def first(bench: Bench) -> bool:
    """Seconds from opening to the first answer; the files are in the system's cache."""
    reached = True
    for name, text in (("vector", ""), ("text, hybrid", bench.data.texts[0])):
        took = []
        for _ in range(bench.rounds):
            command = [sys.executable, "-c", FIRST, str(bench.folder), text]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            assert answer[1] == str(K)
            took.append(float(answer[0]))
        reached &= verdict(f"first answer, {name}, s", median(took), GOALS["first"])
    return reached


# -- search against the same index


class RawIndex:
    """FAISS on the files of a collection: its index, or all its vectors where it has none."""

    def __init__(self, folder: Path) -> None:
        faiss = one_thread_faiss()
        current = orjson.loads((folder / "dense" / "current.json").read_bytes())
        shape = (current["rows"], current["dimension"])
        path = folder / "dense" / f"{current['build']}.vectors"
        self.vectors = np.memmap(path, dtype="<f4", mode="r", shape=shape).view(np.ndarray)
        self.entry = current["index"]
        self._exact = faiss.IndexFlat(shape[1], faiss.METRIC_INNER_PRODUCT)
        self._exact.add(self.vectors)
        if self.entry is not None:
            file = folder / "dense" / self.entry["files"]["main"]["name"]
            self._index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC)
            self._refined = faiss.IndexRefine(self._index, self._exact)
            self._params = faiss.IndexRefineSearchParameters(
                k_factor=RERANKED / K, base_index_params=self._base_params(self.entry["parameter"])
            )

    def _base_params(self, parameter: dict[str, int]) -> Any:  # noqa: ANN401 - FAISS has no types
        faiss = one_thread_faiss()
        if "nprobe" in parameter:
            return faiss.SearchParametersIVF(nprobe=parameter["nprobe"])
        if "efSearch" in parameter:
            return faiss.SearchParametersHNSW(efSearch=parameter["efSearch"])
        return None

    def search(self, queries: Vectors) -> NDArray[np.int64]:
        """The best rows (Q, K)."""
        if self.entry is None:
            rows = better_path(queries, self.vectors, K)[1]
        else:
            rows = self._refined.search(queries, K, params=self._params)[1]
        return np.asarray(rows, dtype=np.int64)


def search(bench: Bench) -> bool:
    """Milliseconds beyond FAISS for one query; queries/s of batches as a share of FAISS's."""
    raw = RawIndex(bench.folder)
    print("index:", "every vector is scanned" if raw.entry is None else (raw.entry["factory"], raw.entry["parameter"]))
    with bench.open() as collection:
        requests = [SearchRequest(vector=query.tolist()) for query in bench.data.queries]
        collection.search_many(requests)
        raw.search(bench.data.queries)
        same = _same(raw, collection, bench.data.queries, requests)
        print(f"top {K} alike for {same:.4f} of the ranks")
        reached = _one(raw, collection, bench, requests)
        for size in BATCHES[1:]:
            ours, theirs = _turns(raw, collection, bench, requests, size)
            ratio = median(theirs) / median(ours)
            text = f"batches of {size}: {size / median(ours):.0f} queries/s, share of FAISS's"
            reached &= verdict(text, ratio, GOALS["batch"], least=True)
    return reached


def _same(raw: RawIndex, collection: Collection, queries: Vectors, requests: Sequence[SearchRequest]) -> float:
    """The share of hits that FAISS finds, too."""
    found = [[int(hit.id[1:]) for hit in hits] for hits in _hits(collection, requests)]
    rows = raw.search(queries)
    return float(np.mean([len(set(a) & set(b.tolist())) / K for a, b in zip(found, rows, strict=True)]))


def _hits(collection: Collection, requests: Sequence[SearchRequest]) -> list[list[Hit]]:
    """The hits of each; raises what a request was answered by in their place."""
    found = []
    for result in collection.search_many(requests):
        if isinstance(result, PolyseekError):
            raise result
        found.append(result.hits)
    return found


def _one(raw: RawIndex, collection: Collection, bench: Bench, requests: Sequence[SearchRequest]) -> bool:
    ours, theirs = _turns(raw, collection, bench, requests, 1)
    p95 = [float(np.percentile(times, 95)) * 1e3 for times in (ours, theirs)]
    print(
        f"one query, median / p95 ms: {median(ours) * 1e3:.3f} / {p95[0]:.3f}, "
        f"FAISS {median(theirs) * 1e3:.3f} / {p95[1]:.3f}"
    )
    # Of pairs that follow each other at once, so that a busy moment weighs on both.
    added = median(a - b for a, b in zip(ours, theirs, strict=True)) * 1e3
    return verdict("one query, ms beyond FAISS", added, GOALS["one"])


def _turns(
    raw: RawIndex, collection: Collection, bench: Bench, requests: Sequence[SearchRequest], size: int
) -> tuple[list[float], list[float]]:
    """Seconds of each batch of so many queries: ours and FAISS's."""
    ours, theirs = [], []
    for _ in range(bench.rounds):
        for start in range(0, min(len(requests), 64 * size) - size + 1, size):
            queries, asked = bench.data.queries[start : start + size], requests[start : start + size]
            theirs.append(bench.seconds(partial(raw.search, queries)))
            ours.append(bench.seconds(partial(collection.search_many, asked)))
    return ours, theirs


# -- exact search


def path(queries: Vectors, vectors: Vectors, k: int, threshold: int) -> tuple[Vectors, NDArray[np.int64]]:
    """FAISS's exact search, by matrix products (threshold ALWAYS) or row by row (NEVER)."""
    faiss = one_thread_faiss()
    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = threshold
    scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    faiss.knn_inner_product(
        faiss.swig_ptr(queries), faiss.swig_ptr(vectors), vectors.shape[1], len(queries), len(vectors), k,
        faiss.swig_ptr(scores), faiss.swig_ptr(rows), None,
    )  # fmt: skip
    faiss.cvar.distance_compute_blas_threshold = before
    return scores, rows


def better_path(queries: Vectors, vectors: Vectors, k: int) -> tuple[Vectors, NDArray[np.int64]]:
    """The better one for so many queries, as `exact` finds it here."""
    return path(queries, vectors, k, NEVER if len(queries) < 6 else ALWAYS)


def exact(bench: Bench) -> bool:
    """The worst ratio of seconds to the better path's, over sizes and batches."""
    from retriever.dense import nearest

    one_thread_faiss()
    reached = True
    sizes = sorted({10_000, 200_000, len(bench.data.vectors)})
    for rows, size in itertools.product([n for n in sizes if n <= len(bench.data.vectors)], BATCHES):
        vectors, queries = bench.data.vectors[:rows], np.ascontiguousarray(bench.data.queries[:size])
        took: list[list[float]] = [[], [], []]
        works: list[Callable[[], object]] = [
            partial(path, queries, vectors, K, ALWAYS),
            partial(path, queries, vectors, K, NEVER),
            partial(nearest, queries, vectors, K),
        ]
        # What takes a millisecond is measured more often: its least time is what a busy machine blurs most.
        for _ in range(bench.rounds * max(1, ONE_ROUND // (rows * size))):
            for place, (times, work) in enumerate(zip(took, works, strict=True)):
                skipped = place == 1 and size >= PRODUCTS_ONLY
                times.append(float("inf") if skipped else bench.seconds(work))
        products, row_by_row, ours = (min(times) * 1e3 for times in took)
        text = (
            f"exact, {rows} rows, {size} queries: {ours:.2f} ms, products {products:.2f}, row by row {row_by_row:.2f}"
        )
        reached &= verdict(f"{text}; ratio", ours / min(products, row_by_row), GOALS["exact"])
    return reached


# -- upsert


def upsert(bench: Bench) -> bool:
    """Milliseconds until one document is durable, and until a search has seen it."""
    with bench.open() as collection:
        plain, written, seen = [], [], []
        for i, (vector, document) in enumerate(_new_documents(bench)):
            request = SearchRequest(vector=vector.tolist())
            plain.append(seconds(partial(collection.search_many, [request])))
            written.append(seconds(partial(collection.upsert, [document])))
            started = time.perf_counter()
            [hits] = _hits(collection, [request])
            seen.append(time.perf_counter() - started)
            assert document.id in [hit.id for hit in hits], f"upsert {i} isn't seen"
    for name, times in (("upsert", written), ("the search after it", seen), ("an ordinary search", plain)):
        print(f"{name}, median / p95 ms: {median(times) * 1e3:.2f} / {np.percentile(times, 95) * 1e3:.2f}")
    total = [w + s - p for w, s, p in zip(written, seen, plain, strict=True)]
    print(f"durable and seen, p95 ms: {np.percentile(total, 95) * 1e3:.2f}")
    return verdict("durable and seen, median ms", median(total) * 1e3, GOALS["upsert"])


def _new_documents(bench: Bench) -> Iterator[tuple[Vectors, Document]]:
    for i in range(20 * bench.rounds):
        vector = bench.data.queries[i % len(bench.data.queries)]
        yield vector, _document(f"new{time.time_ns()}", f"a new sentence, number {i}", vector)


# -- building the index


def index(bench: Bench) -> bool:
    """Seconds that building takes, as a ratio to FAISS's for the same kind from the same vectors."""
    raw = RawIndex(bench.folder)
    if raw.entry is None:
        print("no index to build: every vector is scanned")
        return True
    ours, theirs = [], []
    with bench.open() as collection:
        for _ in range(max(1, bench.rounds // 2)):
            # FAISS's own default trains on up to four times as many; the same sample size makes it the same work.
            theirs.append(bench.seconds(lambda: _build_raw(raw, bench.folder.parent / "raw.faiss")))
            ours.append(bench.seconds(lambda: rebuild_index(collection)))
    print(f"building {raw.entry['factory']}: {min(ours):.1f} s, FAISS {min(theirs):.1f} s")
    return verdict("building the index, ratio", min(ours) / min(theirs), GOALS["index"])


def _build_raw(raw: RawIndex, file: Path) -> None:
    faiss = one_thread_faiss()
    made = faiss.index_factory(raw.vectors.shape[1], raw.entry["factory"], faiss.METRIC_INNER_PRODUCT)
    trained = _plan(raw.entry["kind"], raw.vectors).trained
    if (inverted := faiss.try_extract_index_ivf(made)) is not None:
        inverted.cp.max_points_per_centroid = max(inverted.cp.max_points_per_centroid, trained // inverted.nlist + 1)
    if trained:
        sample = np.random.default_rng(0).choice(len(raw.vectors), min(trained, len(raw.vectors)), replace=False)
        made.train(raw.vectors[np.sort(sample)])
    made.add(raw.vectors)
    faiss.write_index(made, str(file))


def _plan(kind: str, vectors: Vectors) -> Any:  # noqa: ANN401 - imported late
    from retriever import kinds

    return kinds.named(kind, *vectors.shape)


def rebuild_index(collection: Collection) -> None:
    """The dense index alone, as `optimize` builds it: planned, trained, filled, tuned, measured, written."""
    derived, indexer = collection._upkeep.derived(), collection._upkeep._indexer(threads=1)
    entry = indexer._planned(indexer._rows(derived.snapshots().dense), lambda: None)
    assert entry is not None
    for file in entry.files.values():
        (derived.vectors.folder / file.name).unlink()


PARTS: dict[str, Callable[[Bench], bool]] = {
    "first": first, "search": search, "exact": exact, "upsert": upsert, "index": index
}  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Run the parts named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all of them by default")
    parser.add_argument("--vectors", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="count processor time, on a machine that has other work")
    parsed = parser.parse_args(arguments)
    names = parsed.parts or list(PARTS)
    clock = time.thread_time if parsed.cpu else time.perf_counter
    with tempfile.TemporaryDirectory() as scratch:
        if names == ["exact"]:
            bench = Bench(Path(scratch), Data.make(parsed.vectors), parsed.rounds, clock)
        else:
            bench = Bench.build(Path(scratch) / "vectors", parsed.vectors, parsed.rounds, clock)
        reached = [PARTS[name](bench) for name in names]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
