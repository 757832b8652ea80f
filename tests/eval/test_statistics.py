"""Intervals and tests, against exact counting where that is possible."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.statistics import holm, interval, randomisation


def test_an_interval_of_many_values_is_that_of_the_normal_distribution():
    values = np.random.default_rng(1).normal(3, 2, 4_000)
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert interval(values) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.01)
    assert interval(values) == interval(values)


def test_of_one_value_and_of_none():
    assert interval(np.array([0.25])) == (0.25, 0.25)
    assert np.isnan(interval(np.array([]))).all()


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8))
def test_a_test_of_few_differences_counts_all_signs(differences):
    ours = np.array(differences, np.float64)
    ways = [abs(sum(sign * d for sign, d in zip(signs, differences, strict=True))) >= abs(sum(differences))
            for signs in product([1, -1], repeat=len(differences))]  # fmt: skip
    assert randomisation(ours, np.zeros(len(ours))) == pytest.approx(np.mean(ways))


def test_a_test_of_many_differences_is_near_the_exact_one():
    random = np.random.default_rng(2)
    differences = random.normal(0.5, 1, 16)
    signs = 1 - 2 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1)
    exact = (np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9).mean()
    assert randomisation(differences, np.zeros(16)) == pytest.approx(exact, abs=0.01)


def test_systems_that_differ_by_chance_alone_are_rarely_told_apart():
    random = np.random.default_rng(5)
    ps = np.array([randomisation(random.normal(size=30), np.zeros(30), seed=seed) for seed in range(300)])
    for level in (0.05, 0.2, 0.5):
        assert (ps <= level).mean() == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / len(ps)))


@given(st.integers(1, 400), st.integers(0, 10))
def test_an_interval_of_shares_lies_around_the_mean(count, seed):
    values = np.random.default_rng(seed).integers(0, 2, count).astype(np.float64)
    low, high = interval(values, seed=seed)
    assert 0 <= low <= values.mean() <= high <= 1


def test_which_of_two_comes_first_makes_no_difference():
    ours, theirs = np.random.default_rng(3).random((2, 50))
    assert randomisation(ours, theirs) == randomisation(theirs, ours)
    assert randomisation(ours, ours) == 1.0


def test_several_comparisons_are_corrected_step_by_step():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
