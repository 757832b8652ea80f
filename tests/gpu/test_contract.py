"""The contract of the kinds once more, with the vectors on the device."""

import shutil

import pytest

from retriever import Collection
from tests.retriever.test_kinds import *  # noqa: F403
from tests.retriever.test_kinds import COUNT, KINDS, QUERIES, answers


@pytest.fixture
def collection(stored, kind, tmp_path, gpu_owner):
    shutil.copytree(stored, tmp_path / "c")
    with Collection.open(tmp_path / "c") as opened:
        opened.optimize(kind=kind)
        opened.settle()
        assert opened.info().gpu == COUNT
        yield opened


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def test_opened_again_it_answers_the_same(collection, tmp_path):
    expected = answers(collection, k=20)
    collection.close()
    with Collection.open(tmp_path / "c") as again:
        again.settle()
        assert answers(again, k=20) == expected


def test_the_same_vectors_give_the_same_index(collection, stored, tmp_path, kind):
    shutil.copytree(stored, tmp_path / "twin")
    with Collection.open(tmp_path / "twin") as twin:
        twin.optimize(kind=kind)
        twin.settle()
        assert answers(twin, k=50) == answers(collection, k=50)


def test_recall_is_measured_on_the_queries_that_were_given(collection, kind):
    """Of the index, which the device doesn't need."""
    collection.set_queries(QUERIES)
    collection.settle()
    info = collection.info()
    assert kind == "flat" or (info.index.recall_of == "queries" and 0.9 <= info.recall <= 1)
