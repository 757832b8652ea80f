"""Weighted reciprocal rank fusion, by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.fusion import C, decided_by, fuse

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


permutations = st.permutations(range(60))


@given(permutations, st.lists(permutations, min_size=1, max_size=2), st.integers(1, 12), st.floats(0.3, 1))
def test_a_ranking_cut_where_it_decides_the_first_fuses_to_the_same_first(ranking, others, first, weight):
    rest = [(0.2, other[:40]) for other in others]
    depth = decided_by(first, weight, 0.2 * len(rest))
    whole = fuse([*rest, (weight, ranking)])[:first]
    assert fuse([*rest, (weight, ranking[:depth])])[:first] == whole


@given(permutations, permutations, st.integers(1, 12), st.floats(0.2, 1))
def test_it_decides_them_sooner_where_the_other_ranking_has_every_member(ranking, other, first, weight):
    depth = decided_by(first, weight, 0.2, least=0.2 / (C + len(other)))
    assert depth is not None
    assert depth <= (decided_by(first, weight, 0.2) or depth)
    whole = fuse([(0.2, other), (weight, ranking)])[:first]
    assert fuse([(0.2, other), (weight, ranking[:depth])])[:first] == whole


def test_no_depth_of_a_light_ranking_decides():
    assert decided_by(10, 0.1, 0.2) is None
    assert decided_by(10, 0.0, 0.0) is None


def test_it_decides_with_one_rank_to_spare():
    """The last of the first ten against a member just beyond the depth that another ranking has first."""
    depth = decided_by(10, 0.8, 0.2)
    assert depth == 39
    last = 0.8 / (C + 10)
    assert [0.8 / (C + beyond) + 0.2 / (C + 1) < last for beyond in (depth + 1, depth, depth - 1)] == [
        True,
        True,
        False,
    ]
