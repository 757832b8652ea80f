"""Metrics against trec_eval's own code, by hand, and against released numbers of Mean Rank Variance."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, RR, Judged, P, R, Success, iter_calc, nDCG

from eval.metrics import per_query, rank_variation
from eval.ranking import rank
from eval.runs import Run
from retriever.errors import InvalidRequest
from tests.eval.tasks import drawn, task

RELEASED = Path(__file__).with_name("released.npz")
# Ours -> that of ir_measures, which asks trec_eval's own code where that has it.
THEIRS = {
    "ndcg@3": nDCG @ 3, "ndcg@40": nDCG @ 40, "recall@10": R @ 10, "precision@5": P @ 5, "map": AP, "map@10": AP @ 10,
    "success@5": Success @ 5, "mrr@2": RR @ 2, "mrr@40": RR, "judged@3": Judged @ 3, "judged@40": Judged @ 40,
}  # fmt: skip


@given(st.integers(0, 10**6), st.integers(1, 40))
def test_trec_eval_has_the_same_values(seed, depth):
    asked = drawn(seed)
    random = np.random.default_rng(seed)
    documents = np.stack([random.permutation(40)[:depth] for _ in range(6)])
    scores = random.permutation(6 * depth).reshape(6, depth).astype(np.float32)
    run = Run.of_scores(asked, documents, scores, None)
    judged = {query: {} for query in asked.queries.ids}
    columns = asked.judgements.query, asked.judgements.document, asked.judgements.grade
    for query, document, grade in zip(*columns, strict=True):
        judged[f"q{query}"][f"d{document}"] = int(grade)
    answers = {
        f"q{query}": {f"d{d}": float(s) for d, s in zip(run.documents[query], run.scores[query], strict=True)}
        for query in range(6)
    }
    theirs = {
        (str(found.measure), found.query_id): found.value for found in iter_calc(THEIRS.values(), judged, answers)
    }
    for name, values in per_query(asked, run, list(THEIRS)).items():
        expected = [theirs[str(THEIRS[name]), query] for query in asked.queries.ids]
        assert values == pytest.approx(expected, abs=1e-9), name


@given(st.integers(0, 10**6), st.sampled_from(["ndcg@9", "recall@5", "recall_capped@3", "precision@4", "mrr@9", "r@2"]))
def test_another_order_of_the_queries_is_another_order_of_the_values(seed, name):
    asked, order = drawn(seed), np.random.default_rng(seed).permutation(6)
    judged = zip(asked.judgements.query, asked.judgements.document, asked.judgements.grade, strict=True)
    moved = task(6, 40, {(int(np.flatnonzero(order == q)[0]), int(d)): int(g) for q, d, g in judged})
    documents = np.random.default_rng(seed).permuted(np.tile(np.arange(40), (6, 1)), axis=1)
    scores = np.tile(np.arange(40, 0, -1, dtype=np.float32), (6, 1))
    values = per_query(asked, Run.of_scores(asked, documents, scores, None), [name])[name]
    other = per_query(moved, Run.of_scores(moved, documents[order], scores, None), [name])[name]
    assert np.array_equal(values[order], other)


def test_an_encoder_that_has_collapsed_scores_as_chance_does():
    asked = task(50, 50, {(query, query): 1 for query in range(50)})
    run = rank(np.ones((50, 4), np.float32), np.ones((50, 4), np.float32), asked, 50)
    values = per_query(asked, run, ["recall@10", "success@5", "mrr@50", "ndcg@50", "r@10", "r@25"])
    means = {name: found.mean() for name, found in values.items()}
    places = np.arange(1, 51)
    assert means == {
        "recall@10": pytest.approx(10 / 50), "success@5": pytest.approx(5 / 50),
        "mrr@50": pytest.approx((1 / places).mean()), "ndcg@50": pytest.approx((1 / np.log2(1 + places)).mean()),
        # All of them have the middle rank, 24.5.
        "r@10": 0, "r@25": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("direction", "recalls"), [("image_to_text", (0.60, 0.95, 1.0)), ("text_to_image", (0.37, 0.78, 0.92))]
)
def test_image_and_text_find_each_other_as_the_released_evaluation_says(direction, recalls):
    """20 images of five captions each, with the orders of the released function's scores instead of these."""
    scores = np.load(RELEASED)[direction].astype(np.float32)
    pairs = [(query // 5, query) if direction == "image_to_text" else (query, query // 5) for query in range(100)]
    asked = task(*scores.shape, dict.fromkeys(pairs, 1), kind="image-text")
    run = rank(scores, np.eye(scores.shape[1], dtype=np.float32), asked, 10)
    found = per_query(asked, run, ["r@1", "r@5", "r@10"])
    assert [values.mean() for values in found.values()] == pytest.approx(recalls)


def test_reciprocal_rank_and_recall_are_those_of_the_released_evaluation_on_mr_tydi():
    """Twelve queries' relevant passages, by their places among the 100 found; None: not found."""
    places = [
        [None], [17, None], [None, None], [None, None, None], [None, None, None], [None, 69, None],
        [None], [7], [None], [None, None, None], [44, None], [None],
    ]  # fmt: skip
    grades = {
        (query, place if place is not None else 100 + number): 1
        for query, row in enumerate(places)
        for number, place in enumerate(row)
    }
    asked = task(12, 103, grades)
    scores = np.tile(np.arange(100, 0, -1, dtype=np.float32), (12, 1))
    run = Run.of_scores(asked, np.tile(np.arange(100), (12, 1)), scores, 100)
    found = per_query(asked, run, ["mrr@100", "recall@100"])
    assert found["mrr@100"].mean() == pytest.approx(0.018088624338624338, abs=1e-12)
    assert found["recall@100"].mean() == pytest.approx(0.19444444444444442, abs=1e-12)


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


def test_rank_variation_is_that_of_the_released_code_for_2000_instances():
    found = rank_variation(np.load(RELEASED)["mrv_ranks"].astype(np.float64))
    assert found["mrv_std"].mean() == pytest.approx(4.401148602835841, abs=1e-9)
    assert found["mrv_var"].mean() == pytest.approx(27.890125, abs=1e-9)
    assert found["mrv_mad"].mean() == pytest.approx(3.8239375, abs=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 100), st.integers(1, 9))
def test_rank_variation_knows_no_zero_and_grows_with_the_ranks(seed, more, times):
    random = np.random.default_rng(seed)
    ranks = random.integers(0, 100, (7, 5)).astype(np.float64)
    found, moved, grown = (rank_variation(r) for r in (ranks, ranks + random.integers(0, more, (7, 1)), ranks * times))
    for name, power in (("mrv_std", 1), ("mrv_mad", 1), ("mrv_var", 2)):
        assert moved[name] == pytest.approx(found[name])
        assert grown[name] == pytest.approx(found[name] * times**power)


def test_ranks_of_a_part_of_the_corpus_have_no_variance():
    with pytest.raises(ValueError, match="whole corpus"):
        rank_variation(np.array([[0, np.inf]]))


@given(st.integers(0, 10**6))
def test_an_encoder_that_is_the_same_in_every_language_has_no_variance(seed):
    ranks = np.repeat(np.random.default_rng(seed).integers(0, 100, (7, 1)), 5, axis=1).astype(np.float64)
    assert all((values == 0).all() for values in rank_variation(ranks).values())
