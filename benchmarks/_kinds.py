"""Index kinds as benchmarks build and search them: candidates, a build in a process of its own, search with re-ranking.

Axes: N rows, Q queries, D dimensions, K = 10 results. `python _kinds.py ORDER` builds one index: see `build`.
"""

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

K = 10
CHUNK = 16_384
EF = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
NPROBE = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192, 256)
Vectors = NDArray[np.float32]


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


def candidates(count: int, dimension: int, named: Sequence[str]) -> Iterator[Candidate]:
    """Those named, else the serious ones: codes without and with lists, about as many lists as a collection gets."""
    lists = 1 << round(math.log2(math.sqrt(count) / 1.75))
    codes = (f"PQ{dimension // 4}x4fs", f"PQ{dimension // 8}x4fs", "RaBitQ")
    serious = ("Flat", "RaBitQ", *(f"IVF{lists},{code}" for code in (*codes, "SQ8", "Flat")), "HNSW32")
    for factory in named or serious:
        narrow, wide = Candidate.of(factory, 100), Candidate.of(factory, 256)
        yield narrow
        if narrow.window:
            yield wide


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
    def make(cls, candidate: Candidate, base: Vectors, file: Path, folder: Path) -> "Opened":
        """Build it over `file`, of which `base` is the map, in a child, and open what it wrote."""
        path = folder / f"{candidate.factory}.faiss"
        order = {
            "factory": candidate.factory, "train": candidate.train, "base": str(file),
            "dimension": base.shape[1], "path": str(path),
        }  # fmt: skip
        if not path.exists():
            child = subprocess.run(
                [sys.executable, __file__, json.dumps(order)], check=True, capture_output=True, text=True
            )
            path.with_suffix(".json").write_text(child.stdout, "utf-8")
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if candidate.mapped else 0)
        built = json.loads(path.with_suffix(".json").read_text("utf-8"))
        figures = {"kind": candidate.name, "rows": len(base), **built}
        print(figures, file=sys.stderr, flush=True)
        return cls(candidate, index, base, figures)

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


def kth_scores(base: Vectors, queries: Vectors) -> NDArray[np.float32]:
    """The score of each query's K-th best row, float32 (Q,): what scores as much is right, whichever row it is."""
    scores, _ = faiss.knn(queries, base, K, metric=faiss.METRIC_INNER_PRODUCT)
    return scores[:, -1]


def seconds(work: Callable[[], object]) -> float:
    """How long it took."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


if __name__ == "__main__":
    print(json.dumps(build(**json.loads(sys.argv[1]))))
