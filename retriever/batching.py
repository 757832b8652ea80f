"""Batches by their number of tokens, and what happens when one doesn't fit into memory."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.errors import ModelUnavailable


def batches(lengths: Sequence[int], budget: int, *, padded: bool) -> list[list[int]]:
    """Group texts by their numbers of tokens so that no group of two or more costs more than the budget.

    padded: a text costs as much as the longest of its group, so they are sorted first, the longest in front; else they
    keep their order. Returns indices into `lengths`, each once.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i]) if padded else range(len(lengths))
    groups: list[list[int]] = []
    cost = 0
    for i in order:
        widened = (len(groups[-1]) + 1) * lengths[groups[-1][0]] if padded and groups else cost + lengths[i]
        if not groups or widened > budget:
            groups.append([])
            cost = 0
        groups[-1].append(i)
        cost += lengths[i]
    return groups


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
