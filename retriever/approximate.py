"""An approximate FAISS index over the first rows of a build: what of it is noted, how it is opened and searched.

Axes: Q queries, N rows, D dimensions, K results, L lists of an inverted file. FAISS knows rows by their numbers. What
an index finds are candidates: whoever asks ranks them again by `dense.inner_products`.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from crc32c import crc32c
from numpy.typing import NDArray

from retriever.dense import Queries, Rows, inner_products, load_faiss, nearest, searching, selector
from retriever.files import DamagedIndex
from retriever.rows import RowSet

NONE = -1
# Where more than this share of the rows doesn't count, an index is searched as under a filter.
SPARE = 0.05
# Candidates of so many times the results where codes are scanned under a filter: what passes may lie far from the
# query, where codes of few dimensions tell rows apart less well.
DEEPER = 4
# Each round through lists under a filter covers so many times the rows of all before. 200,000 x 512, half of the rows:
# random ones, of topics near the query, far from it: recall .985, .977, .61 in one round, .998, .998, .99 in rounds.
WIDER = 4
# The rounds end when one of them changes none of the best so many.
SETTLED = 10
# Lists that an index beside a graph would probe: it is there for filtered searches alone, and so not tuned.
FILTERED_PROBES = 16


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A FAISS file of the dense folder."""

    name: str
    bytes: int
    checksum: int


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """What `current.json` notes of an index.

    rows: it covers the first so many. parameter: what `search` sets, e.g. {"nprobe": 12}. recall: at 10, as measured on
    `recall_of`, of which `trial` is a checksum. probes: row -> rows that its vector found when the index was new.
    files: "main", and "filtered" where the first knows no row sets.
    """

    kind: str
    factory: str
    rows: int
    parameter: Mapping[str, int]
    recall: float
    recall_of: Literal["queries", "self-query"]
    trial: int
    probes: Mapping[str, list[int]]
    files: Mapping[str, IndexFile]

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "IndexEntry":
        """From its JSON form. Raises DamagedIndex."""
        try:
            files = {role: IndexFile(**file) for role, file in values["files"].items()}
            return cls(**{**values, "files": files})
        except (AttributeError, KeyError, TypeError) as error:
            raise DamagedIndex(f"the note of the FAISS index: {error}") from None


class ApproximateIndex:
    """An open index. Safe to use from several threads."""

    def __init__(self, entry: IndexEntry, made: Mapping[str, Any], vectors: NDArray[np.float32]) -> None:
        self.entry = entry
        self.rows = entry.rows
        self._vectors = vectors[: entry.rows]
        self._main = made["main"]
        self._filtered = filtered = made.get("filtered", self._main)
        self._lists = _Lists(filtered) if load_faiss().try_extract_index_ivf(filtered) is not None else None

    @property
    def number_of_lists(self) -> int | None:
        """Lists of the inverted file that answers unfiltered searches, None where it is none."""
        ivf = load_faiss().try_extract_index_ivf(self._main)
        return None if ivf is None else int(ivf.nlist)

    @property
    def is_graph(self) -> bool:
        """Whether unfiltered searches follow links."""
        faiss = load_faiss()
        return isinstance(faiss.downcast_index(self._main), faiss.IndexHNSW)

    @classmethod
    def open(cls, folder: Path, entry: IndexEntry, vectors: NDArray[np.float32]) -> "ApproximateIndex":
        """Map the files of an index over these vectors, and see that they are what was written and answer as they did.

        Raises DamagedIndex. FAISS itself trusts what it reads, so that a flipped byte could end the process.
        """
        opened = {role: _read(folder / file.name, file) for role, file in entry.files.items()}
        for index in opened.values():
            if index.d != vectors.shape[1] or index.ntotal != entry.rows or entry.rows > len(vectors):
                raise DamagedIndex(f"{folder}: an index of {index.ntotal} x {index.d} over {vectors.shape} vectors")
        found = cls(entry, opened, vectors)
        if found.probe([int(row) for row in entry.probes]) != dict(entry.probes):
            raise DamagedIndex(f"{folder}: the index answers its probes otherwise than when it was written")
        return found

    def probe(self, rows: list[int]) -> dict[str, list[int]]:
        """The ten candidates of the vectors of some rows, searched for one by one."""
        return {
            str(row): self._unfiltered(self._vectors[row : row + 1], 10, self.entry.parameter)[0].tolist()
            for row in rows
        }

    def search(self, queries: Queries, count: int, allowed: RowSet, parameter: Mapping[str, int] | None = None) -> Rows:
        """Rows that may be the nearest of the allowed ones: at least `count` of each query or all there are.

        int64 (Q, K), -1 where there are no more. parameter: in place of the index's own.
        """
        parameter = self.entry.parameter if parameter is None else parameter
        passing = allowed.count_before(self.rows)
        wanted = min(count, passing)
        searching(queries.shape[1], self.rows)
        if passing >= (1 - SPARE) * self.rows:
            found = self._unfiltered(queries, count + int(SPARE * count), parameter)
            found = np.where(allowed.mask[found], found, NONE)
        else:
            found = self._among(queries, count, allowed, parameter)
        if (short := _short(found, wanted)).any():
            # What was near is gone: the rest is looked for as under a filter.
            found = _put(found, short, self._among(queries[short], count, allowed, parameter))
        if (short := _short(found, wanted)).any():
            _, exact = nearest(queries[short], self._vectors, count, allowed=allowed.mask[: self.rows])
            found = _put(found, short, exact)
        return found

    def _unfiltered(self, queries: Queries, count: int, parameter: Mapping[str, int]) -> Rows:
        _, rows = self._main.search(queries, count, params=_parameters(self._main, parameter, count))
        return np.asarray(rows, dtype=np.int64)

    def _among(self, queries: Queries, count: int, allowed: RowSet, parameter: Mapping[str, int]) -> Rows:
        if self._lists is not None:
            probed = parameter.get("nprobe", FILTERED_PROBES)
            return self._lists.search(queries, count, allowed, probed, self._vectors)
        wanted = selector(allowed.bitmap, self.rows)
        params = _parameters(self._filtered, parameter, count, wanted)
        _, rows = self._filtered.search(queries, DEEPER * count, params=params)
        return np.asarray(rows, dtype=np.int64)


class _Lists:
    """The lists of an inverted file, to be searched by how many passing rows each holds.

    A filter may leave nothing good in the lists that lie nearest to a query. So lists are taken in the order of their
    distance, in rounds, until a round finds nothing better. No row is scanned twice. The index must outlive it.
    """

    def __init__(self, index: Any) -> None:  # noqa: ANN401
        faiss = load_faiss()
        self._ivf = faiss.try_extract_index_ivf(index)
        chain = index.chain if isinstance(index, faiss.IndexPreTransform) else None
        self._chain = [] if chain is None else [chain.at(place) for place in range(chain.size())]
        self.count = int(self._ivf.nlist)
        self._list_of_row: NDArray[np.int32] | None = None
        self._passing: WeakKeyDictionary[RowSet, NDArray[np.int64]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def search(self, queries: Queries, count: int, allowed: RowSet, probed: int, exact: NDArray[np.float32]) -> Rows:
        """Candidates among the allowed rows, int64 (Q, count), ranked by their exact vectors (N, D).

        probed: lists that an unfiltered search looks at, which is what the first round covers.
        """
        vectors = self._transformed(queries)
        distances, lists = self._ivf.quantizer.search(vectors, self.count)
        passing = self._passing_rows(allowed)[lists]
        before = np.cumsum(passing, axis=1) - passing
        best = np.full((len(queries), count), NONE, dtype=np.int64)
        tops = np.full((len(queries), SETTLED), -np.inf, dtype=np.float32)
        start, end = 0.0, max(float(count), probed * self._ivf.ntotal / self.count)
        active = np.arange(len(queries))
        while len(active):
            chosen = (passing[active] > 0) & (before[active] >= start) & (before[active] < end)
            found = self._scanned(
                vectors[active], distances[active], np.where(chosen, lists[active], NONE), count, allowed
            )
            best[active], scores = _best(queries[active], exact, np.hstack([best[active], found]), count)
            settled = (scores[:, :SETTLED] == tops[active, : scores.shape[1]]).all(axis=1)
            tops[active, : scores.shape[1]] = scores[:, :SETTLED]
            more = ((passing[active] > 0) & (before[active] >= end)).any(axis=1)
            active = active[more & ~settled]
            start, end = end, WIDER * end
        return best

    def _scanned(
        self, vectors: Queries, distances: NDArray[np.float32], lists: Rows, count: int, allowed: RowSet
    ) -> Rows:
        """The best by their codes of the allowed rows in some lists (Q, L), NONE among them, int64 (Q, count)."""
        faiss = load_faiss()
        used = np.flatnonzero((lists != NONE).any(axis=0))
        lists, distances = np.ascontiguousarray(lists[:, used]), np.ascontiguousarray(distances[:, used])
        scores = np.full((len(vectors), count), -np.inf, dtype=np.float32)
        rows = np.full((len(vectors), count), NONE, dtype=np.int64)
        wanted = selector(allowed.bitmap, self._ivf.ntotal)
        if len(used):
            # FAISS's Python wrapper of this method takes no parameters.
            self._ivf.search_preassigned_c(
                len(vectors), faiss.swig_ptr(vectors), count, faiss.swig_ptr(lists), faiss.swig_ptr(distances),
                faiss.swig_ptr(scores), faiss.swig_ptr(rows),
                False, faiss.SearchParametersIVF(sel=wanted, nprobe=len(used)),  # noqa: FBT003 - SWIG takes no keywords
            )  # fmt: skip
        return rows

    def _transformed(self, queries: Queries) -> Queries:
        for transform in self._chain:
            queries = load_faiss().downcast_VectorTransform(transform).apply(queries)
        return queries

    def _passing_rows(self, allowed: RowSet) -> NDArray[np.int64]:
        """How many allowed rows each list holds, int64 (L,); counted once for a row set."""
        with self._lock:
            if allowed not in self._passing:
                if self._list_of_row is None:
                    self._list_of_row = self._assignments()
                lists = self._list_of_row[allowed.mask[: self._ivf.ntotal]]
                self._passing[allowed] = np.bincount(lists, minlength=self.count)
            return self._passing[allowed]

    def _assignments(self) -> NDArray[np.int32]:
        faiss = load_faiss()
        lists = np.empty(self._ivf.ntotal, dtype=np.int32)
        for number in range(self.count):
            if size := self._ivf.invlists.list_size(number):
                lists[faiss.rev_swig_ptr(self._ivf.invlists.get_ids(number), size)] = number
        return lists


def _parameters(index: Any, parameter: Mapping[str, int], count: int, selector: Any = None) -> Any:  # noqa: ANN401
    """FAISS's search parameters for the kind of index that this is."""
    faiss = load_faiss()
    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(
            index_params=_parameters(inner.index, parameter, count, selector), sel=selector
        )
    if isinstance(inner, faiss.IndexIVF):
        return faiss.SearchParametersIVF(nprobe=parameter.get("nprobe", 1), sel=selector)
    if isinstance(inner, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=max(parameter.get("efSearch", 16), count), sel=selector)
    if isinstance(inner, faiss.IndexRaBitQ):
        return faiss.RaBitQSearchParameters(sel=selector)
    return None if selector is None else faiss.SearchParameters(sel=selector)


def _best(queries: Queries, vectors: NDArray[np.float32], rows: Rows, count: int) -> tuple[Rows, NDArray[np.float32]]:
    """The first `count` of some rows (Q, K) by their exact vectors, and their scores."""
    scores = inner_products(queries, vectors, rows)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    each = np.arange(len(rows))[:, None]
    return rows[each, order], scores[each, order]


def _short(found: Rows, wanted: int) -> NDArray[np.bool_]:
    """Which queries found fewer rows than wanted, bool (Q,)."""
    counts: NDArray[np.int64] = (found >= 0).sum(axis=1)
    return counts < wanted


def _put(found: Rows, places: NDArray[np.bool_], rows: Rows) -> Rows:
    """What was found, with other rows for some queries."""
    wide = np.full((len(found), max(found.shape[1], rows.shape[1])), NONE, dtype=np.int64)
    wide[:, : found.shape[1]] = found
    wide[places] = NONE
    wide[places, : rows.shape[1]] = rows
    return wide


def _read(path: Path, file: IndexFile) -> Any:  # noqa: ANN401
    """Map an index file once its bytes are what was written. Raises DamagedIndex."""
    faiss = load_faiss()
    try:
        content: NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
        if content.size != file.bytes or crc32c(content.data) != file.checksum:
            raise DamagedIndex(f"{path} differs from its checksum")
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        raise DamagedIndex(f"{path}: {error}") from None
