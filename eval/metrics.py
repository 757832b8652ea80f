"""Metrics of one task's run, one value a query, and Mean Rank Variance.

As trec_eval defines them: linear gains, a discount of 1/log2(1 + rank), ideal and denominators over all judged
documents; grades of 0 and less are not relevant. A query without a relevant document has 0 and counts in every mean.
Axes: Q queries, K ranks, J judgements, I instances, L languages.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from eval.runs import Run, find
from eval.tasks import Task
from retriever.errors import InvalidRequest

Values = NDArray[np.float64]

_NAME = re.compile(r"([a-z_]+)(?:@([1-9]\d*))?")


@dataclass(frozen=True)
class _Graded:
    """gains: of the run's documents, 0 where not relevant, (Q, K). found, judged: whether there is one, and whether it
    is judged, (Q, K). relevant: documents that are relevant to each query, (Q,). ideal: their gains, best first,
    (Q, most). first: rank of the best-ranked relevant document, as `Run.ranks` has it, inf where none is ranked.
    """

    gains: NDArray[np.int64]
    found: NDArray[np.bool_]
    judged: NDArray[np.bool_]
    relevant: NDArray[np.int64]
    ideal: NDArray[np.int64]
    first: Values


def per_query(task: Task, run: Run, names: Sequence[str]) -> dict[str, Values]:
    """Each metric's value for each query, float64 (Q,). Raises InvalidRequest for a name that is none."""
    graded = _graded(task, run)
    return {name: compute(graded, k) for name, (compute, k) in ((name, parse(name)) for name in names)}


def parse(name: str) -> "tuple[Callable[[_Graded, int | None], Values], int | None]":
    """What a name such as `ndcg@10` stands for. Raises InvalidRequest."""
    match = _NAME.fullmatch(name)
    compute = _METRICS.get(match[1]) if match else None
    if match is None or compute is None or (match[2] is None and match[1] != "map"):
        known = ", ".join(f"{metric}@K" for metric in _METRICS)
        raise InvalidRequest(f"no metric {name!r}", hint=f"the metrics are {known} and map")
    return compute, int(match[2]) if match[2] else None


def _graded(task: Task, run: Run) -> _Graded:
    judgements = task.judgements
    which, _ = find(task, run.documents)
    grades = np.append(np.maximum(judgements.grade, 0), 0)  # the last for those without judgement
    good = judgements.grade > 0
    relevant = np.bincount(judgements.query[good], minlength=len(task.queries))
    ideal = np.zeros((len(task.queries), max(int(relevant.max(initial=0)), 1)), np.int64)
    order = np.lexsort((-judgements.grade[good], judgements.query[good]))
    queries = judgements.query[good][order]
    ideal[queries, np.arange(len(queries)) - np.searchsorted(queries, queries)] = judgements.grade[good][order]
    first = np.full(len(task.queries), np.inf)
    np.minimum.at(first, judgements.query[good], run.ranks[good])
    return _Graded(grades[which], run.documents >= 0, which >= 0, relevant, ideal, first)


def _share(found: Values | NDArray[np.int64], of: Values | NDArray[np.int64]) -> Values:
    """0 where there is nothing to find."""
    shares = np.zeros(len(of))
    np.divide(found, of, out=shares, where=of > 0)
    return shares


def _discounted(gains: NDArray[np.int64], k: int | None) -> Values:
    kept = gains[:, :k]
    return kept @ (1 / np.log2(np.arange(kept.shape[1]) + 2))


def _ndcg(graded: _Graded, k: int | None) -> Values:
    """Jarvelin and Kekalainen 2002, with the gains themselves."""
    return _share(_discounted(graded.gains, k), _discounted(graded.ideal, k))


def _recall(graded: _Graded, k: int | None) -> Values:
    return _share((graded.gains[:, :k] > 0).sum(axis=1), graded.relevant)


def _capped_recall(graded: _Graded, k: int | None) -> Values:
    """Of what k places can hold, as BEIR's `recall_cap`."""
    most = graded.relevant if k is None else np.minimum(graded.relevant, k)
    return _share((graded.gains[:, :k] > 0).sum(axis=1), most)


def _precision(graded: _Graded, k: int | None) -> Values:
    assert k is not None
    return cast(Values, (graded.gains[:, :k] > 0).sum(axis=1) / k)


def _mrr(graded: _Graded, k: int | None) -> Values:
    hits = graded.gains[:, :k] > 0
    found: Values = hits.any(axis=1) / (hits.argmax(axis=1) + 1)
    return found


def _map(graded: _Graded, k: int | None) -> Values:
    hits = graded.gains[:, :k] > 0
    precisions = np.cumsum(hits, axis=1) / (np.arange(hits.shape[1]) + 1)
    return _share((precisions * hits).sum(axis=1), graded.relevant)


def _success(graded: _Graded, k: int | None) -> Values:
    return cast(Values, (graded.gains[:, :k] > 0).any(axis=1).astype(np.float64))


def _judged(graded: _Graded, k: int | None) -> Values:
    """Of those found, where they are fewer than k."""
    return _share(graded.judged[:, :k].sum(axis=1), graded.found[:, :k].sum(axis=1))


def _r(graded: _Graded, k: int | None) -> Values:
    """Whether the best-ranked right answer has a rank below k, ranks from 0: the R@K of image-text retrieval."""
    assert k is not None
    return (graded.first < k).astype(np.float64)


_METRICS: dict[str, Callable[[_Graded, int | None], Values]] = {
    "ndcg": _ndcg, "recall": _recall, "recall_capped": _capped_recall, "precision": _precision, "mrr": _mrr,
    "map": _map, "success": _success, "judged": _judged, "r": _r,
}  # fmt: skip


def rank_variation(ranks: Values) -> dict[str, Values]:
    """How much each instance's rank varies over languages, (I,), by name. ranks: (I, L), finite.

    `mrv_std`, the standard deviation, is the published form (Nie et al. 2024, arXiv 2406.18254, as its released code
    computes it); `mrv_var` is the variance that gives it its name, `mrv_mad` the mean absolute deviation from the mean.
    All over the languages at hand (ddof 0). Their means over the instances are the Mean Rank Variance of a direction.
    Raises ValueError where a rank is not finite.
    """
    if not np.isfinite(ranks).all():
        raise ValueError("Mean Rank Variance takes ranks among the whole corpus")
    from_mean = np.abs(ranks - ranks.mean(axis=1, keepdims=True))
    return {"mrv_std": ranks.std(axis=1), "mrv_var": ranks.var(axis=1), "mrv_mad": from_mean.mean(axis=1)}
