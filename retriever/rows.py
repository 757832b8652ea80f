"""Sets of slots: which units a search may find, and what a filter leaves of them over the generations.

Axes: S slots. A set is found once, from the indices of the store, and carried over to the next generation by looking at
what was written since. 1,000,000 units and a filter that half of them pass: 50 ms, then 0.3 ms at each generation
(benchmarks/filters.py).
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retriever.filters import EVERYTHING, All, AnyOf, HasMetadata, HasTrait, Not, OfKind, Test
from retriever.reader import Reader

CACHED_FILTERS = 64
# A set is found anew where more documents than these, and than this share of the slots, would have to be looked at.
FEW, FEW_SHARE = 1_000, 0.05

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RowSet:
    """An immutable set of slots, told apart by identity. mask: bool (S,)."""

    mask: Mask
    _counts: dict[int, int] = field(default_factory=dict, repr=False)

    @cached_property
    def count(self) -> int:
        """How many slots are in it."""
        return int(np.count_nonzero(self.mask))

    def count_before(self, slot: int) -> int:
        """How many slots below `slot` are in it."""
        if slot == len(self.mask):
            return self.count
        if slot not in self._counts:
            self._counts[slot] = int(np.count_nonzero(self.mask[:slot]))
        return self._counts[slot]

    @cached_property
    def bitmap(self) -> NDArray[np.uint8]:
        """The mask as bits, the lowest first."""
        return np.packbits(self.mask, bitorder="little")

    @cached_property
    def slots(self) -> NDArray[np.int64]:
        """The slots in it, int64 (N,), ascending."""
        return np.flatnonzero(self.mask)

    def without(self, slots: NDArray[np.int64]) -> "RowSet":
        """The set less these slots."""
        mask = self.mask.copy()
        mask[slots] = False
        return RowSet(mask)

    def within(self, mask: Mask) -> "RowSet":
        """Those of the set that a mask has too."""
        return RowSet(self.mask & mask)


class Runs:
    """Which slots of a set are neighbours of one document, as all units of a document are that were put at once."""

    def __init__(self, documents: NDArray[np.int64]) -> None:
        """documents: of the set's slots, int64 (N,)."""
        begins = _differ(documents)
        self._starts = np.flatnonzero(begins)
        self._run = np.cumsum(begins) - 1

    def best(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """Of each run the first place with its best score (N,), ascending."""
        if not len(scores):
            return self._starts
        places = np.flatnonzero(scores == np.maximum.reduceat(scores, self._starts)[self._run])
        return places[_differ(self._run[places])]


def _differ(values: NDArray[np.int64]) -> Mask:
    """Which of some values aren't those before them."""
    differ = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=differ[1:])
    return differ


class Slots(Protocol):
    """What a set is a set of: one generation's units in their slots, keys ascending.

    live: the slots whose units are there. documents int64 (S,), kinds uint8 (S,): of every slot, dead or not.
    """

    @property
    def generation(self) -> int: ...  # noqa: D102
    @property
    def live(self) -> RowSet: ...  # noqa: D102
    @property
    def documents(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def kinds(self) -> NDArray[np.uint8]: ...  # noqa: D102
    @property
    def layout(self) -> str:
        """While it is the same, the first `rows` slots are the same units, and `rows` only grows."""

    @property
    def rows(self) -> int: ...  # noqa: D102

    def keys_at(self, slots: NDArray[np.int64]) -> NDArray[np.int64]: ...  # noqa: D102
    def documents_at(self, slots: NDArray[np.int64]) -> NDArray[np.int64]: ...  # noqa: D102
    def slots(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slots of these units; units without one are left out."""


class _Kept(NamedTuple):
    """The set of a filter at one generation, and what its slots were: `behind` are the keys in those behind `rows`."""

    generation: int
    found: RowSet
    layout: str
    rows: int
    behind: NDArray[np.int64]

    @classmethod
    def of(cls, found: RowSet, slots: Slots) -> "_Kept":
        behind = slots.keys_at(np.arange(slots.rows, len(found.mask)))
        return cls(slots.generation, found, slots.layout, slots.rows, behind)

    def common(self, slots: Slots) -> int:
        """How many slots from the front are the same units there."""
        if self.layout != slots.layout or self.rows > slots.rows:
            return 0
        size = len(self.found.mask)
        same = size <= len(slots.live.mask) and np.array_equal(slots.keys_at(np.arange(self.rows, size)), self.behind)
        return size if same else self.rows


class RowSets:
    """The sets of the filters that were used last, handed on from view to view; safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Test, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, test: Test, reader: Reader, slots: Slots) -> RowSet:
        """Which slots are live and pass the test. reader: of the slots' generation."""
        if test == EVERYTHING:
            return slots.live
        with self._lock:
            kept = self._kept.get(test)
            if kept is not None:
                self._kept.move_to_end(test)
        size = len(slots.live.mask)
        common = 0 if kept is None else kept.common(slots)
        if kept is not None and kept.generation == slots.generation and common == size == len(kept.found.mask):
            return kept.found
        carried = None if kept is None else _carried(kept, common, test, reader, slots)
        found = slots.live.within(_passing(test, reader, _all_units(slots)) if carried is None else carried)
        with self._lock:
            # Whoever is still on an older view doesn't put back what a newer one has found.
            if test not in self._kept or self._kept[test].generation <= slots.generation:
                self._kept[test] = _Kept.of(found, slots)
            while len(self._kept) > CACHED_FILTERS:
                self._kept.popitem(last=False)
        return found


class _Units(NamedTuple):
    """Units to test. slots: the places of keys among them. among: their documents, None where they are all units."""

    documents: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    slots: Callable[[NDArray[np.int64]], NDArray[np.int64]]
    among: NDArray[np.int64] | None


def _all_units(slots: Slots) -> _Units:
    return _Units(slots.documents, slots.kinds, slots.slots, None)


def _passing(test: Test, reader: Reader, units: _Units) -> Mask:
    """Which of the units pass."""
    match test:
        case HasMetadata(name, having, values):
            return _are_in(units.documents, reader.documents_where(name, having, values, among=units.among))
        case HasTrait(sql, values):
            mask = np.zeros(len(units.documents), dtype=np.bool_)
            mask[units.slots(reader.units_where(sql, values, among=units.among))] = True
            return mask
        case OfKind(kind):
            return np.equal(units.kinds, kind)
        case Not(inner):
            return ~_passing(inner, reader, units)
        case All(tests):
            masks = (_passing(one, reader, units) for one in tests)
            return reduce(np.logical_and, masks, np.ones(len(units.documents), dtype=np.bool_))
        case AnyOf(tests):
            masks = (_passing(one, reader, units) for one in tests)
            return reduce(np.logical_or, masks, np.zeros(len(units.documents), dtype=np.bool_))


def _are_in(documents: NDArray[np.int64], found: NDArray[np.int64]) -> Mask:
    """Which of the documents were found."""
    # A byte for each key ever given: of 1,000,000 documents 1.5 ms, np.isin 5 to 9.
    table = np.zeros(1 + max(documents.max(initial=0), found.max(initial=0)), dtype=np.bool_)
    table[found] = True
    return table[documents]


def _carried(kept: _Kept, common: int, test: Test, reader: Reader, slots: Slots) -> Mask | None:
    """Which slots pass, from a set of an older generation; None where it is of no use."""
    changed = reader.changed(kept.generation) if common and kept.generation <= slots.generation else None
    if changed is None:
        return None
    size = len(slots.live.mask)
    touched = np.union1d(changed, slots.documents_at(np.arange(common, size)))
    if len(touched) > max(FEW, FEW_SHARE * size):
        return None
    mask = np.zeros(size, dtype=np.bool_)
    mask[:common] = kept.found.mask[:common]
    if len(touched):
        table = reader.units_in(touched)
        units = _Units(table.documents, table.kinds, lambda keys: np.searchsorted(table.keys, keys), touched)
        mask[slots.slots(table.keys)] = _passing(test, reader, units)
    return mask
