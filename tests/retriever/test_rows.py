"""Row sets of filters: carried over writes they equal those found anew, and a plain walk over the documents."""

import itertools
import random

import numpy as np
import pytest

from retriever import Collection, SearchRequest
from retriever.reader import Reader
from retriever.rows import RowSet, Runs
from tests.retriever.conftest import document
from tests.retriever.test_filters import VALUES, matches

# Few and asked again and again, so that their sets are carried over; what a filter means is test_filters.py's matter.
FILTERS = (
    {"x": 1},
    {"x": {"ne": 1}},
    {"x": {"gte": 2}},
    {"x": {"gt": -5, "lt": 2.2}},
    {"x": {"in": [True, "a", 2]}},
    {"y": {"exists": False}},
    {"tags": "a"},
    {"not": {"tags": "b"}},
    {"or": [{"x": "b"}, {"tags": "a", "y": 1}]},
    {"language": "zh"},
    {"language": {"ne": "en"}, "x": {"exists": True}},
    {"kind": "passage", "tags": {"in": ["a", "b"]}},
    {"or": [{"modality": "code"}, {"y": 1}]},
)


def written(rng):
    """A document; seldom with another language, text or modality: then the metadata alone changes, the units stay."""
    metadata = {"y": rng.choice([1, 2]), "tags": rng.sample(["a", "b"], rng.randrange(3)), "x": rng.choice(VALUES)}
    for name in ("x", "y"):
        if rng.random() < 0.2:
            del metadata[name]
    return document(
        f"d{rng.randrange(8)}",
        text=rng.choice(["kivo"] * 5 + ["zumba"]),
        language=rng.choice(["en"] * 5 + ["zh-Hant"]),
        modality=rng.choice(["text"] * 5 + ["code"]),
        metadata=metadata,
    )


def write(collection, documents, rng):
    """One write to the collection and to its plain twin, a dict."""
    chance = rng.random()
    if chance < 0.7:
        batch = [written(rng) for _ in range(rng.randint(1, 3))]
        collection.upsert(batch)
        documents.update((one.id, one) for one in batch)
    elif chance < 0.95:
        identifier = f"d{rng.randrange(8)}"
        collection.delete(ids=[identifier])
        documents.pop(identifier, None)
    else:
        collection.optimize()


def found(collection, filter_):
    return {hit.id for hit in collection.search(SearchRequest(vector=[1.0, 0.5, 0.0], filter=filter_, k=200)).hits}


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(3, 60))])
def test_a_set_carried_over_any_writes_holds_what_a_walk_over_the_documents_finds(collection, seed):
    rng = random.Random(seed)
    seed_document = document("seed", metadata={"x": 1, "y": 2, "tags": ("a",)})
    collection.upsert([seed_document])
    documents = {"seed": seed_document}
    for _ in range(25):
        write(collection, documents, rng)
        for filter_ in FILTERS:
            assert found(collection, filter_) == {one.id for one in documents.values() if matches(filter_, one)}, (
                filter_
            )


def test_metadata_that_changes_alone_moves_a_document_in_and_out_of_a_set(collection):
    collection.upsert([document(name, metadata={"x": 1}) for name in ("a", "b", "c")])
    assert found(collection, {"x": 1}) == {"a", "b", "c"}
    collection.upsert([document("b", metadata={"x": 2})])
    assert found(collection, {"x": 1}) == {"a", "c"}
    collection.upsert([document("b", metadata={"x": 1})])
    assert found(collection, {"x": 1}) == {"a", "b", "c"}


def test_another_process_sees_the_sets_change(collection):
    collection.upsert([document("a", metadata={"x": 1}), document("b", metadata={"x": 2})])
    with Collection.open(collection.folder) as other:
        assert found(other, {"x": 1}) == {"a"}
        collection.upsert([document("b", metadata={"x": 1}), document("c", metadata={"x": 1})])
        assert found(other, {"x": 1}) == {"a", "b", "c"}
        collection.delete(ids=["a"])
        assert found(other, {"x": 1}) == {"b", "c"}


def test_a_set_is_found_once_and_then_carried_from_generation_to_generation(collection, monkeypatch):
    whole = []
    real = Reader.documents_where

    def counted(reader, *args, among=None):
        whole.append(among is None)
        return real(reader, *args, among=among)

    monkeypatch.setattr(Reader, "documents_where", counted)
    collection.upsert([document(f"d{number}", metadata={"x": number % 2}) for number in range(20)])
    for number in range(3):
        collection.upsert([document(f"d{number}", metadata={"x": 1}), document(f"e{number}", metadata={"x": 1})])
        assert len(found(collection, {"x": 1})) == 12 + number + (number > 1)
    assert whole.count(True) == 1
    assert whole.count(False) == 2


def test_a_bitmap_holds_the_lowest_slot_in_its_lowest_bit():
    rows = RowSet(np.array([True, False, True, False, False, False, False, False, True]))
    assert rows.bitmap.tolist() == [5, 1]
    assert rows.count == 3
    assert rows.slots.tolist() == [0, 2, 8]
    assert rows.without(np.array([2])).slots.tolist() == [0, 8]
    assert rows.count == 3


@pytest.mark.parametrize("documents", [[], [1], [1, 1, 2, 2, 2, 5], [3, 1, 1, 3], list(range(1, 9)), [7] * 9])
def test_the_best_of_each_run_is_its_first_best(documents):
    rng = random.Random(len(documents))
    for _ in range(20):
        scores = np.array([rng.choice([-1, 0, 0.5, 1]) for _ in documents], dtype=np.float32)
        expected, start = [], 0
        for _, run in itertools.groupby(documents):
            end = start + len(list(run))
            expected.append(max(range(start, end), key=lambda place: scores[place]))
            start = end
        assert Runs(np.array(documents, dtype=np.int64)).best(scores).tolist() == expected
