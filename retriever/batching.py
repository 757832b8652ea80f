"""Batches by their number of tokens, and what happens when one doesn't fit into memory."""

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.errors import ModelUnavailable


def batches(lengths: Sequence[int], budget: int, *, padded: bool, call: int) -> list[list[int]]:
    """Group texts by their numbers of tokens so that no group of two or more costs more than the budget.

    padded: a text costs as much as the longest of its group; then they are sorted, the longest in front, and parted so
    that all groups together cost least. Else they keep their order, and each group is as large as it can be. call:
    tokens that take as long as a group does by itself. Returns indices into `lengths`, each once.
    """
    if not padded:
        return _filled(lengths, budget)
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    ends = _cheapest(np.asarray(lengths, dtype=np.int64)[order], budget, call)
    return [order[start:end].tolist() for start, end in pairwise([0, *ends])]


def _filled(lengths: Sequence[int], budget: int) -> list[list[int]]:
    groups: list[list[int]] = []
    cost = 0
    for i, length in enumerate(lengths):
        if not groups or cost + length > budget:
            groups.append([])
            cost = 0
        groups[-1].append(i)
        cost += length
    return groups


def _cheapest(descending: NDArray[np.int64], budget: int, call: int) -> list[int]:
    """The ends of the groups of these lengths: the least cost of the first n comes from that of fewer."""
    count = len(descending)
    least = np.zeros(count + 1, dtype=np.int64)
    begins = np.zeros(count + 1, dtype=np.int64)
    first = 0
    for end in range(1, count + 1):
        while first < end - 1 and (end - first) * descending[first] > budget:
            first += 1
        costs = least[first:end] + call + np.arange(end - first, 0, -1) * descending[first:end]
        begins[end] = first + costs.argmin()
        least[end] = costs.min()
    ends = []
    while count:
        ends.append(count)
        count = int(begins[count])
    return ends[::-1]


def in_halves(
    batch: Sequence[Any],
    forward: Callable[[Sequence[Any]], NDArray[np.float32]],
    halved: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """Encode a batch, in halves where memory doesn't suffice. Raises ModelUnavailable where one alone doesn't fit."""
    try:
        return forward(batch)
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        if len(batch) == 1:
            raise ModelUnavailable(
                "not even one text or picture fits into memory", hint="free memory, or use a smaller model or the CPU"
            ) from error
    # Outside of the handler, whose traceback would keep the failed batch's tensors alive.
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    halved()
    middle = len(batch) // 2
    return np.concatenate([in_halves(part, forward, halved) for part in (batch[:middle], batch[middle:])])


def _out_of_memory(error: Exception) -> bool:
    # torch's own class is a RuntimeError, its CPU allocator and OpenVINO raise plain ones.
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(s in said for s in ("out of memory", "can't allocate", "bad_alloc"))
