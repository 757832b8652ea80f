"""Exact search against the full matrix, and its rule for ties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.ranking import rank
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


def test_a_constant_is_worth_what_chance_is():
    asked = task(200, 100, {(query, query % 100): 1 for query in range(200)})
    run = rank(np.ones((200, 4), np.float32), np.ones((100, 4), np.float32), asked, 10)
    assert (run.ranks == 49.5).all()
    found = (run.documents == np.arange(200)[:, None] % 100).any(axis=1)
    assert found.mean() == 0.1


def test_a_query_does_not_find_itself_where_the_benchmark_says_so():
    same = items("d", 5)
    grades = {(q, (q + 1) % 5): 1 for q in range(5)}
    asked = Task("test", "search", same, same, judgements(grades), ignores_same_id=True)
    eye = np.eye(5, dtype=np.float32)
    run = rank(eye, eye, asked, 5)
    assert (run.documents[:, :4] != np.arange(5)[:, None]).all()
    assert (run.documents[:, 4] == -1).all()
    assert (run.ranks == 1.5).all()


def test_nothing_can_be_ranked_to_depth_zero():
    with pytest.raises(ValueError, match="at least 1"):
        rank(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32), task(1, 1, {}), 0)
