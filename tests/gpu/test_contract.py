"""The contract of the kinds once more, with the vectors on a device; in place of a GPU for two kinds only."""

import shutil

import pytest

from retriever import Collection
from tests.gpu.conftest import named
from tests.retriever.test_kinds import (  # noqa: F401 - tests and fixtures
    COUNT,
    KINDS,
    QUERIES,
    _index_matters,
    answers,
    stored,
    test_a_filter_that_lets_a_share_pass_at_random_loses_no_neighbours,
    test_a_filter_that_lets_only_far_documents_pass_loses_no_neighbours,
    test_a_kind_that_is_none_changes_nothing,
    test_a_topic_removed_whole_leaves_the_next_ones_findable,
    test_an_exact_search_is_exact,
    test_as_many_are_found_as_there_are_however_many_are_asked_for,
    test_it_finds_what_was_asked_for_and_says_so,
    test_pages_follow_each_other,
    test_queries_asked_together_are_answered_as_one_by_one,
    test_what_is_added_is_taken_into_the_index,
    test_writes_are_seen_at_once_and_the_removed_never_again,
)

CASES = [
    ("host", "flat"),
    ("host", "ivf"),
    *(pytest.param(("cuda", kind), marks=pytest.mark.gpu) for kind in KINDS),
]


@pytest.fixture(params=CASES, ids="-".join)
def case(request):
    return request.param


@pytest.fixture
def device(case):
    return named(case[0])


@pytest.fixture
def kind(case):
    return case[1]


@pytest.fixture
def collection(stored, kind, tmp_path, gpu_owner):  # noqa: F811
    shutil.copytree(stored, tmp_path / "c")
    with Collection.open(tmp_path / "c") as opened:
        opened.optimize(kind=kind)
        opened.settle()
        assert opened.info().gpu == COUNT
        yield opened


def test_opened_again_it_answers_the_same(collection, tmp_path):
    expected = answers(collection, k=20)
    collection.close()
    with Collection.open(tmp_path / "c") as again:
        again.settle()
        assert answers(again, k=20) == expected


def test_recall_is_measured_of_the_index_which_the_device_has_no_need_of(collection, kind):
    collection.set_queries(QUERIES)
    collection.settle()
    info = collection.info()
    assert kind == "flat" or (info.index.recall_of == "queries" and 0.9 <= info.recall <= 1)
