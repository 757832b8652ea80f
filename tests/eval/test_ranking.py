"""Exact search against the full matrix, and its rule for ties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.ranking import MANY, rank
from eval.runs import hashed_places
from eval.tasks import Items, Task
from tests.eval.tasks import drawn, items, judgements, task


def vectors(seed, count, dimension=8, coarse=False):
    random = np.random.default_rng(seed)
    made = random.integers(-1, 2, (count, dimension)) if coarse else random.normal(size=(count, dimension))
    return made.astype(np.float32)


def slow(queries, documents, asked, k):
    """The full matrix, sorted row by row, and ranks counted one by one."""
    matrix = np.rint((queries @ documents.T).astype(np.float64) * 1e6)
    places = hashed_places(asked.corpus)
    rows = [sorted(range(len(documents)), key=lambda d, row=row: (-row[d], places[d]))[:k] for row in matrix]
    judged = zip(asked.judgements.query, asked.judgements.document, strict=True)
    ranks = [(matrix[q] > matrix[q, d]).sum() + ((matrix[q] == matrix[q, d]).sum() - 1) / 2 for q, d in judged]
    return np.array(rows), np.array(ranks)


@given(st.integers(0, 10**6), st.sampled_from([1, 200, 700, 10**9]), st.booleans(), st.integers(1, 50))
def test_ranking_in_blocks_equals_the_full_matrix(seed, block, coarse, k):
    asked = drawn(seed)
    queries, documents = vectors(seed, 6, coarse=coarse), vectors(seed + 1, 40, coarse=coarse)
    run = rank(queries, documents, asked, k, block=block)
    rows, ranks = slow(queries, documents, asked, k)
    if coarse:  # else a product may be rounded either way
        assert np.array_equal(run.documents, rows)
        assert np.array_equal(run.ranks, ranks)
    assert run.documents.shape == (6, min(k, 40))
    assert (np.diff(run.scores, axis=1) <= 0).all()


@given(st.integers(0, 10**6))
def test_the_order_of_the_corpus_makes_no_difference(seed):
    asked = drawn(seed)
    queries, documents = vectors(seed, 6, coarse=True), vectors(seed + 1, 40, coarse=True)
    order = np.random.default_rng(seed).permutation(40)
    corpus = Items(tuple(asked.corpus.ids[i] for i in order))
    shuffled = Task("test", "search", asked.queries, corpus, judgements({}))
    run, other = rank(queries, documents, asked, 10), rank(queries, documents[order], shuffled, 10)
    ids = [[asked.corpus.ids[d] for d in row] for row in run.documents]
    assert ids == [[shuffled.corpus.ids[d] for d in row] for row in other.documents]


@given(st.integers(0, 10**6))
def test_the_order_of_the_queries_is_that_of_the_run(seed):
    asked = drawn(seed)
    queries, documents = vectors(seed, 6, coarse=True), vectors(seed + 1, 40, coarse=True)
    order = np.random.default_rng(seed).permutation(6)
    shuffled = Task("test", "search", Items(tuple(asked.queries.ids[i] for i in order)), asked.corpus, judgements({}))
    run, other = rank(queries, documents, asked, 10), rank(queries[order], documents, shuffled, 10)
    assert np.array_equal(run.documents[order], other.documents)
    assert np.array_equal(run.scores[order], other.scores)


@given(st.integers(0, 10**6), st.integers(1, 300))
def test_the_best_of_a_large_corpus_are_those_of_a_sorted_one(seed, k):
    asked = task(2, 2000, {})
    queries, documents = vectors(seed, 2, dimension=16), vectors(seed + 1, 2000, dimension=16)
    run = rank(queries, documents, asked, k)
    assert run.scores == pytest.approx(-np.sort(-(queries @ documents.T), axis=1)[:, :k], abs=1e-5)


def test_ranks_of_many_judged_documents_are_those_of_few():
    queries, documents = vectors(1, 1, coarse=True), vectors(2, 3 * MANY, coarse=True)
    judged = range(0, 3 * MANY, 2)
    run = rank(queries, documents, task(1, 3 * MANY, dict.fromkeys(((0, d) for d in judged), 1)), 5)
    one_by_one = [rank(queries, documents, task(1, 3 * MANY, {(0, d): 1}), 5).ranks[0] for d in judged]
    assert len(run.ranks) > MANY
    assert run.ranks.tolist() == one_by_one


@given(st.integers(1, 60), st.integers(1, 8), st.floats(-2, 2, width=32))
def test_a_constant_is_worth_what_chance_is(documents, k, value):
    asked = task(documents, documents, {(query, query): 1 for query in range(documents)})
    run = rank(np.full((documents, 2), value, np.float32), np.ones((documents, 2), np.float32), asked, k)
    assert (run.ranks == (documents - 1) / 2).all()
    found = (run.documents == np.arange(documents)[:, None]).any(axis=1)
    assert found.sum() == min(k, documents)


def test_a_query_does_not_find_itself_where_the_benchmark_says_so():
    same = items("d", 5)
    grades = {(q, d): 1 for q in range(5) for d in (q, (q + 1) % 5)}
    asked = Task("test", "search", same, same, judgements(grades), ignores_same_id=True)
    eye = np.eye(5, dtype=np.float32)
    run = rank(eye, eye, asked, 5)
    assert (run.documents[:, :4] != np.arange(5)[:, None]).all()
    assert (run.documents[:, 4] == -1).all()
    itself = asked.judgements.query == asked.judgements.document
    assert (run.ranks[itself] == np.inf).all()
    assert (run.ranks[~itself] == 1.5).all()


@pytest.mark.parametrize(
    ("queries", "documents", "said"),
    [
        (np.ones((2, 2)), np.ones((3, 2)), "1 queries need as many vectors, got 2"),
        (np.ones((1, 2)), np.ones((2, 2)), "3 documents need as many vectors, got 2"),
        (np.ones((1, 2)), np.array([[1, 1], [1, np.nan], [1, 1]]), "a vector of the documents isn't finite"),
        (np.array([[1, np.inf]]), np.ones((3, 2)), "a vector of the queries isn't finite"),
        (np.ones((1, 2)), np.ones((0, 2)), "no documents"),
    ],
)
def test_vectors_that_are_not_those_of_the_task_are_refused(queries, documents, said):
    with pytest.raises(ValueError, match=said):
        rank(queries.astype(np.float32), documents.astype(np.float32), task(1, 3, {}), 1)


def test_nothing_can_be_ranked_to_depth_zero():
    with pytest.raises(ValueError, match="at least 1"):
        rank(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32), task(1, 1, {}), 0)
