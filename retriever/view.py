"""One whole generation of a collection, open to search.

Axes: S slots, Q queries, D dimensions. A slot is a place for one unit: first the rows of the mapped vector file, then
the tail behind its watermark; `keys[slot]` ascends. A view never changes; a new generation is a new view that shares
what stayed.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retriever.analysis import Word
from retriever.dense import VectorSnapshot, nearest, rescore
from retriever.derived import TAIL, lexical_units
from retriever.documents import UNIT_KINDS
from retriever.files import DamagedIndex
from retriever.filters import EVERYTHING, Condition, Filter, compile_filter
from retriever.lexical import LexicalSnapshot, in_memory
from retriever.reader import Reader

DEAD = -1
CACHED_FILTERS = 64

Mask = NDArray[np.bool_]
# One ranking: slots int64 (N,) and scores float32 (N,), best first, ties by key.
Ranking = tuple[NDArray[np.int64], NDArray[np.float32]]
Terms = Sequence[Word]


@dataclass(frozen=True)
class View:
    """See the module.

    documents: document key of each slot, DEAD where its unit is gone. tail: float32 (S - rows, D).
    """

    generation: int
    dense: VectorSnapshot
    lexical: LexicalSnapshot
    lexical_tail: LexicalSnapshot | None
    keys: NDArray[np.int64]
    documents: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    tail: NDArray[np.float32]
    languages: tuple[str, ...]
    _masks: dict[Condition, Mask] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(cls, reader: Reader, dense: VectorSnapshot, lexical: LexicalSnapshot) -> "View":
        """The reader's generation over these indices. Raises DamagedIndex where the dense one lacks a live unit."""
        live = reader.unit_table()
        covered = live[live["key"] <= dense.watermark]
        tail = live[len(covered) :]
        rows = np.searchsorted(dense.keys, covered["key"])
        if not np.array_equal(dense.keys[rows], covered["key"]):
            raise DamagedIndex("the dense index lacks units below its watermark")
        documents = np.full(len(dense.keys), DEAD, dtype=np.int64)
        documents[rows] = covered["document"]
        kinds = np.zeros(len(dense.keys), dtype=np.uint8)
        kinds[rows] = covered["kind"]
        return cls._with_lexical(
            reader, dense, lexical,
            keys=np.concatenate([dense.keys, tail["key"]]),
            documents=np.concatenate([documents, tail["document"]]),
            kinds=np.concatenate([kinds, tail["kind"]]),
            tail=reader.vectors(np.ascontiguousarray(tail["key"]), dense.vectors.shape[1]),
        )  # fmt: skip

    def advance(self, reader: Reader, dense: VectorSnapshot, lexical: LexicalSnapshot) -> "View":
        """The reader's newer generation, from this one where the vector file stayed the same."""
        removed = reader.removed(self.generation)
        same_file = dense.vectors.shape == self.dense.vectors.shape and dense.watermark == self.dense.watermark
        if removed is None or not same_file:
            return View.load(reader, dense, lexical)
        added = reader.unit_table(after=int(self.keys[-1]) if len(self.keys) else 0)
        documents = np.concatenate([self.documents, added["document"]])
        documents[self.slots(removed)] = DEAD
        return View._with_lexical(
            reader, dense, lexical,
            keys=np.concatenate([self.keys, added["key"]]),
            documents=documents,
            kinds=np.concatenate([self.kinds, added["kind"]]),
            tail=np.concatenate([self.tail, reader.vectors(np.ascontiguousarray(added["key"]), self.tail.shape[1])]),
        )  # fmt: skip

    @classmethod
    def _with_lexical(
        cls,
        reader: Reader,
        dense: VectorSnapshot,
        lexical: LexicalSnapshot,
        *,
        keys: NDArray[np.int64],
        documents: NDArray[np.int64],
        kinds: NDArray[np.uint8],
        tail: NDArray[np.float32],
    ) -> "View":
        behind = list(lexical_units(reader, after=lexical.watermark))
        return cls(
            generation=reader.generation,
            dense=dense,
            lexical=lexical,
            lexical_tail=in_memory(behind) if behind else None,
            keys=keys,
            documents=documents,
            kinds=kinds,
            tail=tail,
            languages=tuple(reader.languages()),
        )

    @cached_property
    def units_per_document(self) -> float:
        """Mean number of live units of a document, 1 where there are none."""
        live = self.documents[self.documents != DEAD]
        return len(live) / len(np.unique(live)) if len(live) else 1.0

    def slots(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slots of these units, in their order; keys that this view never held are left out."""
        places, known = self._locate(keys)
        return places[known]

    def _locate(self, keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], Mask]:
        """Where each key is or would be, and whether it is there."""
        places = np.searchsorted(self.keys, keys)
        known = places < len(self.keys)
        known[known] = self.keys[places[known]] == keys[known]
        return places, known

    def mask(self, filter_: Filter | None, reader: Reader) -> Mask:
        """Which slots are live and pass a filter, bool (S,); cached. `reader` is of this view's generation.

        Raises InvalidFilter.
        """
        condition = compile_filter(filter_, reader)
        with self._lock:
            if condition in self._masks:
                return self._masks[condition]
        allowed: Mask = np.not_equal(self.documents, DEAD)
        if condition != EVERYTHING:
            passing = np.zeros(len(self.keys), dtype=np.bool_)
            passing[self.slots(reader.select_units(condition.sql, condition.bindings))] = True
            allowed &= passing
        with self._lock:
            if len(self._masks) >= CACHED_FILTERS:
                self._masks.pop(next(iter(self._masks)))
            self._masks[condition] = allowed
        return allowed

    def of_kind(self, kind: str) -> Mask:
        """Which slots hold a unit of this kind, dead or not, bool (S,)."""
        return np.equal(self.kinds, UNIT_KINDS.index(kind))

    def vectors(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors at these slots, float32 (N, D)."""
        rows = len(self.dense.keys)
        out = np.empty((len(slots), self.tail.shape[1]), dtype=np.float32)
        mapped = slots < rows
        out[mapped] = self.dense.vectors[slots[mapped]]
        out[~mapped] = self.tail[slots[~mapped] - rows]
        return out

    def nearest(self, queries: NDArray[np.float32], count: int, allowed: Mask) -> list[Ranking]:
        """The `count` best slots of each query (Q, D) by inner product among the allowed ones, exactly."""
        rows = len(self.dense.keys)
        everything = bool(allowed.all())
        parts = []
        for vectors, mask, offset in (
            (self.dense.vectors, allowed[:rows], 0),
            (self.tail, allowed[rows:], rows),
        ):
            scores, places = nearest(queries, vectors, min(count, len(vectors)), allowed=None if everything else mask)
            parts.append(np.where((places >= 0) & (scores > -np.inf), places + offset, DEAD))
        return [
            self._ranked(query, slots[slots >= 0], count)
            for query, slots in zip(queries, np.hstack(parts), strict=True)
        ]

    def _ranked(self, query: NDArray[np.float32], slots: NDArray[np.int64], count: int) -> Ranking:
        scores = rescore(query, self.vectors(slots))
        order = np.lexsort((slots, -scores))[:count]
        return slots[order], scores[order]

    def coverage(self, terms: Terms) -> float:
        """The share of these words, by their weights, that occur in the collection, 0 to 1."""
        indices = [index for index in (self.lexical, self.lexical_tail) if index is not None]
        known = sum(word.weight for word in terms if any(index.knows(word) for index in indices))
        return known / sum(word.weight for word in terms) if terms else 0.0

    def matching(self, terms: Terms, count: int, allowed: Mask) -> Ranking:
        """The `count` best slots for these query terms by BM25 among the allowed ones."""
        parts = [
            self._matching_in(index, terms, count, allowed)
            for index in (self.lexical, self.lexical_tail)
            if index is not None
        ]
        slots = np.concatenate([slots for slots, _ in parts])
        scores = np.concatenate([scores for _, scores in parts])
        order = np.lexsort((slots, -scores))[:count]
        return slots[order], scores[order]

    def _matching_in(self, index: LexicalSnapshot, terms: Terms, count: int, allowed: Mask) -> Ranking:
        """Ask for more until enough of what was found is allowed or nothing more is found."""
        limit = count
        while True:
            keys, scores = index.search(terms, limit)
            places, known = self._locate(keys)
            known[known] = allowed[places[known]]
            if known.sum() >= count or len(keys) < limit:
                return places[known][:count], scores[known][:count]
            limit *= 4

    @property
    def lags(self) -> bool:
        """Whether a reader would win by having the keeper catch up."""
        return len(self.tail) > TAIL
