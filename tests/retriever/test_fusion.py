"""Weighted reciprocal rank fusion, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.fusion import C, fuse

rankings = st.lists(
    st.tuples(st.floats(0.1, 1), st.lists(st.integers(0, 9), unique=True, max_size=8)), min_size=1, max_size=4
)


def test_a_score_is_the_sum_of_weighted_reciprocal_ranks():
    fused = dict(fuse([(0.5, ["a", "b"]), (0.25, ["b", "c"])]))
    assert fused["a"] == pytest.approx(0.5 / (C + 1))
    assert fused["b"] == pytest.approx(0.5 / (C + 2) + 0.25 / (C + 1))
    assert fused["c"] == pytest.approx(0.25 / (C + 2))


def test_ties_go_to_the_earlier_ranking():
    assert [member for member, _ in fuse([(1, ["a"]), (1, ["b"]), (1, ["c"])])] == ["a", "b", "c"]


@given(rankings)
def test_every_member_is_there_once_best_first(given_rankings):
    fused = fuse(given_rankings)
    members = [member for member, _ in fused]
    assert set(members) == {member for _, ranking in given_rankings for member in ranking}
    assert len(set(members)) == len(members)
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


@given(st.lists(st.integers(), unique=True, max_size=20), st.floats(0.1, 10))
def test_one_ranking_stays_as_it_is(ranking, weight):
    assert [member for member, _ in fuse([(weight, ranking)])] == ranking
