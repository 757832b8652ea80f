"""One whole generation of a collection, open to search.

Axes: S slots, Q queries, D dimensions. A slot is a place for one unit: first the rows of the mapped columns, then the
tail behind their watermark; keys ascend with slots. A view never changes; a new generation is a new view that shares
what stayed.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from retriever.analysis import Word
from retriever.approximate import ApproximateIndex
from retriever.bm25 import LexicalSnapshot, Within
from retriever.dense import inner_products, nearest
from retriever.derived import Snapshots, lexical_units
from retriever.documents import UNIT_KINDS, Modality
from retriever.filters import Filter, compile_filter
from retriever.lexical import in_memory
from retriever.reader import Reader, UnitRows
from retriever.residence import Residence
from retriever.rows import Mask, RowSet, RowSets, Runs
from retriever.shown import Shown
from retriever.vectors import VectorSnapshot, live_rows

NOWHERE = -1
IMAGE = UNIT_KINDS.index("image")
# A filter that leaves fewer rows than this is answered exactly over them.
EXACT_BELOW = 4_000

# One ranking: slots int64 (N,) and scores float32 (N,), best first, ties by key.
Ranking = tuple[NDArray[np.int64], NDArray[np.float32]]
Terms = Sequence[Word]


class Nearest(NamedTuple):
    """A ranking for each query, and whether a GPU compared the rows of the mapped vectors."""

    rankings: list[Ranking]
    gpu: bool


@dataclass(frozen=True)
class View:
    """See the module. live: the slots whose units are still there. units_per_document: about how many there are.

    shown: the units and documents of its hits.
    """

    generation: int
    dense: VectorSnapshot
    index: ApproximateIndex | None
    lexical: LexicalSnapshot
    tail: UnitRows
    live: RowSet
    languages: tuple[str, ...]
    units_per_document: float
    residence: Residence | None = None
    shown: Shown = field(default_factory=Shown)
    _sets: RowSets = field(default_factory=RowSets)
    _runs: WeakKeyDictionary[RowSet, Runs] = field(default_factory=WeakKeyDictionary)
    _parts: WeakKeyDictionary[RowSet, list[tuple[Modality, RowSet]]] = field(default_factory=WeakKeyDictionary)
    _lexical: dict[str, LexicalSnapshot | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(cls, reader: Reader, snapshots: Snapshots, sets: RowSets | None = None) -> "View":
        """The reader's generation over these indices. sets: what an older view found of filters."""
        dense = snapshots.dense
        tail = reader.unit_rows(dense.vectors.shape[1], after=dense.watermark)
        live = np.concatenate([live_rows(dense, reader), np.ones(len(tail.keys), dtype=np.bool_)])
        documents, units = reader.count()
        return cls(
            reader.generation, dense, snapshots.index, snapshots.lexical, tail, RowSet(live),
            tuple(reader.language_names()), units / documents if documents else 1.0, snapshots.residence,
            _sets=sets or RowSets(),
        )  # fmt: skip

    def advance(self, reader: Reader, snapshots: Snapshots) -> "View":
        """The reader's newer generation, from this one where the mapped columns stayed the same."""
        dense = snapshots.dense
        removed, changed = reader.removed(self.generation), reader.changed(self.generation)
        same = dense.build.build == self.dense.build.build and dense.watermark == self.dense.watermark
        if removed is None or changed is None or not same:
            return View.load(reader, snapshots, self._sets)
        added = reader.unit_rows(dense.vectors.shape[1], after=self.watermark)
        live = np.concatenate([self.live.mask, np.ones(len(added.keys), dtype=np.bool_)])
        gone = self.slots(removed)
        live[gone] = False
        shown = self.shown.after([*self.documents_at(gone).tolist(), *changed.tolist()])
        tail = UnitRows.joined([self.tail, added])
        return View(
            reader.generation, dense, snapshots.index, snapshots.lexical, tail, RowSet(live),
            tuple(reader.language_names()), self.units_per_document, snapshots.residence, shown, self._sets,
        )  # fmt: skip

    @property
    def watermark(self) -> int:
        """The largest key that it holds or held, 0 where there is none."""
        return int(self.tail.keys[-1]) if len(self.tail.keys) else self.dense.watermark

    @property
    def layout(self) -> str:
        """While it is the same, the rows of the mapped columns are the same units."""
        return self.dense.build.build

    @property
    def rows(self) -> int:
        """Slots that are rows of the mapped columns."""
        return len(self.dense.keys)

    @cached_property
    def documents(self) -> NDArray[np.int64]:
        """The document of every slot, int64 (S,), dead or not."""
        return (
            np.concatenate([self.dense.documents, self.tail.documents]) if len(self.tail.keys) else self.dense.documents
        )

    @cached_property
    def kinds(self) -> NDArray[np.uint8]:
        """The kind of every slot, a place in UNIT_KINDS, uint8 (S,), dead or not."""
        return np.concatenate([self.dense.kinds, self.tail.kinds]) if len(self.tail.keys) else self.dense.kinds

    def keys_at(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """The unit keys at these slots."""
        return self._at(self.dense.keys, self.tail.keys, slots)

    def documents_at(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """The document keys at these slots."""
        return self._at(self.dense.documents, self.tail.documents, slots)

    def vectors_at(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors at these slots, float32 (N, D)."""
        return self._at(self.dense.vectors, self.tail.vectors, slots)

    def slots(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slots of these units, in their order; keys that this view never held are left out."""
        found = self._locate(keys)
        known: NDArray[np.int64] = found[found != NOWHERE]
        return known

    def _locate(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slot of each key, NOWHERE where there is none."""
        slots = _places(self.dense.keys, keys)
        if len(self.tail.keys):
            behind = _places(self.tail.keys, keys)
            slots = np.where(behind == NOWHERE, slots, behind + self.rows)
        return slots

    def mask(self, filter_: Filter | None, reader: Reader) -> RowSet:
        """Which slots are live and pass a filter; cached. `reader` is of this view's generation.

        Raises InvalidFilter.
        """
        return self._sets.get(compile_filter(filter_, reader), reader, self)

    @cached_property
    def _pictures(self) -> Mask:
        return np.equal(self.kinds, IMAGE)

    @cached_property
    def _towers(self) -> tuple[Modality, ...]:
        pictures = np.count_nonzero(self._pictures)
        if not pictures:
            return ("text",)
        return ("text", "image") if pictures < len(self._pictures) else ("image",)

    def by_tower(self, allowed: RowSet) -> list[tuple[Modality, RowSet]]:
        """A set parted by the tower that made the vectors, text's or pictures': their scores aren't comparable."""
        if len(self._towers) == 1:
            return [(self._towers[0], allowed)]
        with self._lock:
            if allowed not in self._parts:
                self._parts[allowed] = [
                    ("text", allowed.within(~self._pictures)), ("image", allowed.within(self._pictures))
                ]  # fmt: skip
            return [(tower, part) for tower, part in self._parts[allowed] if part.count]

    def how(self, allowed: RowSet, *, exact: bool, gpu: bool = False) -> dict[str, object]:
        """By which index vectors are found among the allowed slots, whether all are compared, and its recall at 10.

        gpu: whether a GPU did it.
        """
        if self.index is None or exact or gpu or self._few(allowed):
            return {"kind": "flat", "exact": True, "recall": 1.0, "gpu": gpu}
        entry = self.index.entry
        return {"kind": entry.kind, "exact": False, "recall": entry.recall, "gpu": False}

    def nearest(
        self, queries: NDArray[np.float32], count: int, allowed: RowSet, *, exact: bool = False, group: bool = False
    ) -> Nearest:
        """The `count` best slots of each query (Q, D) by inner product among the allowed ones.

        As many as there are, and exactly where `exact`; else the index may miss some. group: of a document only its
        best slot needs to be there.
        """
        if allowed.count <= count:
            return Nearest(self._all_ranked(queries, allowed, group=group), gpu=False)
        if self._few(allowed):
            found, gpu = self._compared(queries, count, allowed.slots), False
        else:
            found, gpu = self._searched(queries, count, allowed, exact=exact)
        return Nearest(self._ranked(queries, found, count), gpu)

    def _all_ranked(self, queries: NDArray[np.float32], allowed: RowSet, *, group: bool) -> list[Ranking]:
        """All allowed slots for each query (Q, D), or the best of each document."""
        slots = allowed.slots
        scores = self._scores(queries, np.tile(slots, (len(queries), 1)))
        if not group:
            return [_best(slots, values, len(slots)) for values in scores]
        # The best of each of 79 documents among 1,408 units: 0.02 ms, by sorting them all 0.12.
        tops = [self._runs_of(allowed).best(values) for values in scores]
        return [_best(slots[places], values[places], len(slots)) for places, values in zip(tops, scores, strict=True)]

    def _runs_of(self, allowed: RowSet) -> Runs:
        with self._lock:
            if allowed not in self._runs:
                self._runs[allowed] = Runs(self.documents_at(allowed.slots))
            return self._runs[allowed]

    def _searched(
        self, queries: NDArray[np.float32], count: int, allowed: RowSet, *, exact: bool
    ) -> tuple[NDArray[np.int64], bool]:
        """Candidates (Q, K) from a GPU or the index, and from a scan of what is behind; and whether a GPU did it."""
        parts, covered = [], 0
        on_gpu = None if self.residence is None else self.residence.search(self.dense, queries, count, allowed)
        if on_gpu is not None:
            parts, covered = [on_gpu[0]], on_gpu[1]
        elif self.index is not None and not exact:
            parts, covered = [self.index.search(queries, count, allowed)], self.index.rows
        ranges = ((covered, self.rows), (self.rows, len(allowed.mask)))
        parts += [self._scanned(queries, count, allowed, start, end) for start, end in ranges if end > start]
        return parts[0] if len(parts) == 1 else np.hstack(parts), on_gpu is not None

    def _few(self, allowed: RowSet) -> bool:
        """Whether so few slots are allowed that their vectors are gathered and compared."""
        return allowed.count <= EXACT_BELOW and 2 * allowed.count <= len(allowed.mask)

    def _compared(self, queries: NDArray[np.float32], count: int, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """The best of these slots, exactly, (Q, K)."""
        _, places = nearest(queries, self.vectors_at(slots), min(count, len(slots)))
        return slots[places]

    def _scanned(
        self, queries: NDArray[np.float32], count: int, allowed: RowSet, start: int, end: int
    ) -> NDArray[np.int64]:
        """The best of the slots from `start` to `end`, all of them mapped or all of the tail, exactly, (Q, K)."""
        tail = start >= self.rows
        vectors = self.tail.vectors[start - self.rows :] if tail else self.dense.vectors[start:end]
        mask = None if allowed.count == len(allowed.mask) else allowed.mask[start:end]
        _, places = nearest(queries, vectors, min(count, end - start), allowed=mask)
        return np.where(places >= 0, places + start, NOWHERE)

    def _ranked(self, queries: NDArray[np.float32], found: NDArray[np.int64], count: int) -> list[Ranking]:
        """The first `count` of the candidates (Q, K), by their exact scores."""
        scores = self._scores(queries, found)
        return [_best(slots, values, count) for slots, values in zip(found, scores, strict=True)]

    def _scores(self, queries: NDArray[np.float32], slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Inner products of each query (Q, D) with some slots (Q, K), -inf where there is none."""
        if not len(self.tail.keys):
            return inner_products(queries, self.dense.vectors, slots)
        mapped = inner_products(queries, self.dense.vectors, np.where(slots < self.rows, slots, NOWHERE))
        behind = np.where(slots < self.rows, NOWHERE, slots - self.rows)
        return np.maximum(mapped, inner_products(queries, self.tail.vectors, behind))

    def lexical_tail(self, reader: Reader) -> LexicalSnapshot | None:
        """The units that the lexical index lacks, indexed in memory; None where it lacks none."""
        with self._lock:
            if "tail" not in self._lexical:
                units = list(lexical_units(reader, after=self.lexical.watermark))
                self._lexical["tail"] = in_memory(units) if units else None
            return self._lexical["tail"]

    def _indices(self, reader: Reader) -> list[LexicalSnapshot]:
        return [index for index in (self.lexical, self.lexical_tail(reader)) if index is not None]

    def coverage(self, terms: Terms, reader: Reader) -> float:
        """The share of these words, by their weights, that occur in the collection, 0 to 1."""
        if not terms:
            return 0.0
        known = set().union(*(index.known(terms) for index in self._indices(reader)))
        found = sum(word.weight for word in terms if word in known)
        return found / sum(word.weight for word in terms)

    def matching(self, terms: Terms, count: int, allowed: RowSet, reader: Reader) -> Ranking:
        """The `count` best slots for these query terms by BM25 among the allowed ones."""
        if not allowed.count:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        within = self._within(allowed)
        parts = [index.search(terms, count, within) for index in self._indices(reader)]
        if len(parts) == 1:
            return parts[0]
        slots = np.concatenate([slots for slots, _ in parts])
        scores = np.concatenate([scores for _, scores in parts])
        order = np.lexsort((slots, -scores))[:count]
        return slots[order], scores[order]

    def _within(self, allowed: RowSet) -> Within:
        """The set as the lexical indices take it: they hold units that are gone too, some without a slot."""
        share = allowed.count / len(allowed.mask)
        return Within(allowed.count, share, partial(self._among, allowed), lambda: self.keys_at(allowed.slots))

    def _among(self, allowed: RowSet, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slot of each unit that is allowed, else NOWHERE."""
        slots = self._locate(keys)
        return np.where(allowed.mask[slots], slots, NOWHERE)

    @property
    def lags(self) -> bool:
        """Whether searches would be faster if the keeper took in what is behind."""
        return bool(len(self.tail.keys)) or self.lexical.watermark < self.watermark

    def _at(self, mapped: NDArray[Any], tail: NDArray[Any], slots: NDArray[np.int64]) -> NDArray[Any]:
        """What a column says of these slots."""
        behind = slots >= self.rows
        if not behind.any():
            return mapped.take(slots, axis=0)
        out = np.empty((len(slots), *mapped.shape[1:]), dtype=mapped.dtype)
        out[~behind] = mapped[slots[~behind]]
        out[behind] = tail[slots[behind] - self.rows]
        return out


def _best(slots: NDArray[np.int64], scores: NDArray[np.float32], count: int) -> Ranking:
    """The first `count` of some slots, NOWHERE among them."""
    order = np.lexsort((slots, -scores))[:count]
    slots, scores = slots[order], scores[order]
    there = np.count_nonzero(slots != NOWHERE)
    return slots[:there], scores[:there]


def _places(sorted_keys: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each key is, NOWHERE where it isn't."""
    if len(sorted_keys) and sorted_keys[-1] - sorted_keys[0] == len(sorted_keys) - 1:
        # None is missing between the first and the last, as it is until rows were left out.
        # Of 256 keys among 1,000,000: 4 us, by bisection 58.
        places = keys - sorted_keys[0]
        return np.where((places >= 0) & (places < len(sorted_keys)), places, NOWHERE)
    places = np.searchsorted(sorted_keys, keys)
    places[places == len(sorted_keys)] = 0
    return np.where(sorted_keys[places] == keys, places, NOWHERE) if len(sorted_keys) else np.full_like(places, NOWHERE)
