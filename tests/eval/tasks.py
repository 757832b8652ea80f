"""Tasks that are made by hand or drawn at random."""

from collections.abc import Mapping

import numpy as np

from eval.tasks import Items, Judgements, Kind, Task


def items(prefix: str, count: int) -> Items:
    return Items(tuple(f"{prefix}{i}" for i in range(count)), tuple(f"text {i}" for i in range(count)))


def judgements(grades: Mapping[tuple[int, int], int]) -> Judgements:
    """From (query, document) -> grade."""
    pairs = sorted(grades)
    columns = np.array(pairs, np.int64).reshape(-1, 2)
    return Judgements(columns[:, 0], columns[:, 1], np.array([grades[pair] for pair in pairs], np.int64))


def task(
    queries: int, documents: int, grades: Mapping[tuple[int, int], int], *, kind: Kind = "search", **others
) -> Task:
    return Task("test", kind, items("q", queries), items("d", documents), judgements(grades), **others)


def drawn(seed: int, queries: int = 6, documents: int = 40, judged: int = 8) -> Task:
    """A task whose queries have some judged documents each, the first of them none that is relevant."""
    random = np.random.default_rng(seed)
    grades = {
        (query, int(document)): int(random.integers(-1, 4)) * (query > 0)
        for query in range(queries)
        for document in random.choice(documents, judged, replace=False)
    }
    return task(queries, documents, grades)
