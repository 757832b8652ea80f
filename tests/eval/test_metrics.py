"""Metrics against trec_eval's own code, by hand, and against released numbers of Mean Rank Variance."""

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import per_query, rank_variation
from eval.ranking import rank
from eval.runs import Run
from retriever.errors import InvalidRequest
from tests.eval.tasks import drawn, task

# Ours -> trec_eval's.
TREC = {
    "ndcg@10": "ndcg_cut_10", "recall@10": "recall_10", "precision@5": "P_5", "map": "map", "map@10": "map_cut_10",
    "success@5": "success_5", "recall@20": "recall_20", "ndcg@20": "ndcg_cut_20",
}  # fmt: skip


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_trec_eval_has_the_same_values(seed, depth):
    asked = drawn(seed)
    random = np.random.default_rng(seed)
    documents = np.stack([random.permutation(40)[:depth] for _ in range(6)])
    scores = random.permutation(6 * depth).reshape(6, depth).astype(np.float32)
    run = Run.of_scores(asked, documents, scores, None)
    judged = {query: {} for query in asked.queries.ids}
    for query, document, grade in zip(
        asked.judgements.query, asked.judgements.document, asked.judgements.grade, strict=True
    ):
        judged[f"q{query}"][f"d{document}"] = int(grade)
    given_run = {
        f"q{query}": {f"d{d}": float(s) for d, s in zip(run.documents[query], run.scores[query], strict=True)}
        for query in range(6)
    }
    theirs = pytrec_eval.RelevanceEvaluator(judged, set(TREC.values()) | {"recip_rank"}).evaluate(given_run)
    ours = per_query(asked, run, [*TREC, "mrr@40"])
    for name, their_name in {**TREC, "mrr@40": "recip_rank"}.items():
        expected = [theirs[f"q{query}"][their_name] for query in range(6)]
        assert ours[name] == pytest.approx(expected, abs=1e-9), name


def test_every_metric_by_hand():
    asked = task(2, 10, {(0, 1): 2, (0, 2): 1, (0, 3): 0, (0, 9): 1})
    run = Run.of_scores(asked, np.array([[5, 1, 3, 2], [1, 2, 3, 4]]), np.array([[4, 3, 2, 1]] * 2, np.float32), 4)
    found = {name: values.tolist() for name, values in per_query(asked, run, [
        "precision@2", "recall@4", "recall_capped@2", "mrr@10", "mrr@1", "success@1", "success@2", "judged@4",
        "map@10", "r@1", "r@2", "ndcg@4",
    ]).items()}  # fmt: skip
    ideal = 2 + 1 / np.log2(3) + 1 / 2
    assert found == {
        "precision@2": [0.5, 0.0], "recall@4": [2 / 3, 0.0], "recall_capped@2": [0.5, 0.0], "mrr@10": [0.5, 0.0],
        "mrr@1": [0.0, 0.0], "success@1": [0.0, 0.0], "success@2": [1.0, 0.0], "judged@4": [0.75, 0.0],
        "map@10": [pytest.approx((1 / 2 + 2 / 4) / 3), 0.0], "r@1": [0.0, 0.0], "r@2": [1.0, 0.0],
        "ndcg@4": [pytest.approx((2 / np.log2(3) + 1 / np.log2(5)) / ideal), 0.0],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["ndcg", "ndcg@0", "bogus@3", "", "recall@-1", "recall@1e3", "NDCG@10"])
def test_a_name_that_is_none_is_refused_with_those_there_are(name):
    asked = task(1, 1, {(0, 0): 1})
    run = rank(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), asked, 1)
    with pytest.raises(InvalidRequest, match="no metric") as caught:
        per_query(asked, run, [name])
    assert "ndcg@K" in caught.value.hint


def test_rank_variation_is_that_of_the_released_code_for_small_ranks():
    found = rank_variation(np.array([[0, 0, 0, 0], [0, 1, 2, 3], [5, 5, 5, 9]], np.float64))
    assert found["mrv_std"].mean() == pytest.approx(0.95002827)
    assert found["mrv_var"].mean() == pytest.approx(1.41666667)
    assert found["mrv_mad"] == pytest.approx([0, 1, 1.5])


def test_ranks_of_a_part_of_the_corpus_have_no_variance():
    with pytest.raises(ValueError, match="whole corpus"):
        rank_variation(np.array([[0, np.inf]]))


@given(st.integers(0, 10**6))
def test_an_encoder_that_is_the_same_in_every_language_has_no_variance(seed):
    ranks = np.repeat(np.random.default_rng(seed).integers(0, 100, (7, 1)), 5, axis=1).astype(np.float64)
    assert all((values == 0).all() for values in rank_variation(ranks).values())
