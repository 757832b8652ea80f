"""What was used last, kept up to a bound."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by key; what was used longest ago goes first. Safe to use from several threads.

    most: what the costs of all values may sum up to. cost: of one, at least 1. Whatever alone costs more isn't kept.
    """

    def __init__(self, most: int, cost: Callable[[K, V], int]) -> None:
        self._most = most
        self._cost = cost
        self._spent = 0
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[K], V]) -> V:
        """The value of a key; `make` is called where none is kept."""
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept[0]
        made = make(key)
        self._keep({key: made})
        return made

    def get_all(self, keys: Iterable[K], make: Callable[[list[K]], Mapping[K, V]]) -> dict[K, V]:
        """The values of these keys; `make` is called for those that aren't kept, and leaves out what there is not."""
        found, missing = {}, []
        with self._lock:
            for key in keys:
                if (kept := self._kept.get(key)) is None:
                    missing.append(key)
                else:
                    self._kept.move_to_end(key)
                    found[key] = kept[0]
        if missing:
            made = make(missing)
            self._keep(made)
            found.update(made)
        return found

    def without(self, keys: Collection[K]) -> "Recent[K, V]":
        """A copy less some keys, which goes its own way from here."""
        copy: Recent[K, V] = Recent(self._most, self._cost)
        with self._lock:
            copy._kept, copy._spent = self._kept.copy(), self._spent
        for key in keys:
            copy._drop(key)
        return copy

    def _keep(self, values: Mapping[K, V]) -> None:
        costs = {key: self._cost(key, value) for key, value in values.items()}
        with self._lock:
            for key, value in values.items():
                self._drop(key)
                self._kept[key] = value, costs[key]
                self._spent += costs[key]
            while self._spent > self._most:
                self._drop(next(iter(self._kept)))

    def _drop(self, key: K) -> None:
        _, cost = self._kept.pop(key, (None, 0))
        self._spent -= cost
