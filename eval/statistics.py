"""How sure a mean is, and whether two systems differ: over the queries of a task, whose order says nothing."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
# Numbers drawn at a time: 8 MB, near the cores; ten times as many take longer.
_AT_ONCE = 1_000_000

Values = NDArray[np.float64]


def interval(values: Values, *, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of some values (Q,). Efron and Tibshirani 1993, section 13.3.

    NaN where there are none.
    """
    if not len(values):
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // len(values))
    counts = [min(step, RESAMPLES - start) for start in range(0, RESAMPLES, step)]
    means = np.concatenate([values[random.integers(len(values), size=(n, len(values)))].mean(axis=1) for n in counts])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def randomisation(ours: Values, theirs: Values, *, seed: int = 0) -> float:
    """The p of a paired, two-sided randomisation test: how often chance signs of the differences (Q,) do as much.

    Smucker, Allan and Carterette 2007, section 4.1. Exact where there are at most 13 differences other than 0.
    """
    differences = ours - theirs
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    # Sums of the same numbers in another order differ in their last digits.
    least = abs(differences.sum()) * (1 - 1e-12)
    if 2 ** len(differences) <= RESAMPLES:
        signs = 1 - 2.0 * ((np.arange(2 ** len(differences))[:, None] >> np.arange(len(differences))) & 1)
        return float((np.abs(signs @ differences) >= least).mean())
    random = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // len(differences))
    width = -(-len(differences) // 8)
    as_much = 0
    for start in range(0, RESAMPLES, step):
        drawn = random.bytes(min(step, RESAMPLES - start) * width)
        bits = np.unpackbits(np.frombuffer(drawn, np.uint8).reshape(-1, width), axis=1, count=len(differences))
        sums = differences.sum() - 2 * (bits.astype(np.float64) @ differences)
        as_much += int((np.abs(sums) >= least).sum())
    return (as_much + 1) / (RESAMPLES + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """The same, corrected for their number. Holm 1979, "A simple sequentially rejective multiple test procedure"."""
    order = np.argsort(ps, kind="stable")
    corrected = np.maximum.accumulate([min(1.0, (len(ps) - place) * ps[i]) for place, i in enumerate(order)])
    adjusted = np.empty(len(ps))
    adjusted[order] = corrected
    return [float(p) for p in adjusted]
