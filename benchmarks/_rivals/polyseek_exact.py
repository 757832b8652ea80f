"""Our ranking and metrics, with the vectors given."""

from collections.abc import Callable

import numpy as np
from _exact import Given, answer

from eval.metrics import per_query
from eval.ranking import rank
from eval.tasks import Items, Judgements, Task

METRICS = ("ndcg@10", "recall@100", "mrr@10")


def prepare(given: Given) -> Callable[[], dict[str, float]]:
    """A task, as a reader makes it."""
    judged = np.sort(given.judged, axis=1)
    queries = np.repeat(np.arange(len(judged)), judged.shape[1])
    task = Task(
        "test", "search", _items("q", len(given.queries)), _items("d", len(given.documents)),
        Judgements(queries, judged.ravel(), np.ones(judged.size, np.int64)),
    )  # fmt: skip

    def run() -> dict[str, float]:
        values = per_query(task, rank(given.queries, given.documents, task, given.depth), METRICS)
        return {name: float(found.mean()) for name, found in values.items()}

    return run


def _items(prefix: str, count: int) -> Items:
    return Items(tuple(f"{prefix}{row}" for row in range(count)), tuple(f"{row:09}" for row in range(count)))


if __name__ == "__main__":
    answer(prepare)
