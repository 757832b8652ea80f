"""The `beir` package: its exact search with the vectors given, and its evaluation."""

from collections.abc import Callable, Mapping, Sequence

import torch
from _exact import Given, answer
from beir.retrieval.evaluation import EvaluateRetrieval
from beir.retrieval.search.dense import DenseRetrievalExactSearch


class Ready:
    """A model that has encoded before: a text is its vector's row, and rows are asked for in their order."""

    def __init__(self, given: Given) -> None:
        self._queries = torch.from_numpy(given.queries)
        self._documents = torch.from_numpy(given.documents)

    def encode_queries(self, queries: Sequence[str], **_: object) -> torch.Tensor:
        """All of them."""
        return self._queries[: len(queries)]

    def encode_corpus(self, corpus: Sequence[Mapping[str, str]], **_: object) -> torch.Tensor:
        """A slice, which costs nothing."""
        start = int(corpus[0]["text"])
        return self._documents[start : start + len(corpus)]


def prepare(given: Given) -> Callable[[], dict[str, float]]:
    """Its dictionaries. Texts of one length keep their order, since it sorts by length."""
    corpus = {f"d{row}": {"title": "", "text": f"{row:09}"} for row in range(len(given.documents))}
    queries = {f"q{row}": f"{row:09}" for row in range(len(given.queries))}
    qrels = {f"q{query}": {f"d{row}": 1 for row in rows} for query, rows in enumerate(given.judged.tolist())}
    search = DenseRetrievalExactSearch(Ready(given), show_progress_bar=False)
    evaluation = EvaluateRetrieval(search, k_values=sorted({10, 100, given.depth}), score_function="dot")

    def run() -> dict[str, float]:
        results = evaluation.retrieve(corpus, queries)
        ndcg, _, recall, _ = evaluation.evaluate(qrels, results, evaluation.k_values)
        mrr = evaluation.evaluate_custom(qrels, results, [10], metric="mrr")
        return {"ndcg@10": ndcg["NDCG@10"], "recall@100": recall["Recall@100"], "mrr@10": mrr["MRR@10"]}

    return run


if __name__ == "__main__":
    answer(prepare)
