"""A collection under any sequence of calls equals a dict and numpy."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from retriever import Collection, Document, Root, SearchRequest, derived, indexer, kinds, view
from retriever.errors import CollectionReplaced
from tests.retriever.oracle import WORDS, Oracle, assert_equals_oracle, assert_same_ranking
from tests.retriever.small import KINDS, left_over

identifiers = st.sampled_from([f"d{number}" for number in range(40)])
# A small grid makes equal vectors, and so ties, frequent.
vectors = st.tuples(*[st.integers(-2, 2).map(lambda number: number / 2)] * 3)
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
documents = st.builds(
    lambda identifier, vector, text, year, tags: Document(
        id=identifier,
        text=text,
        language="en",
        vector=np.array(vector, dtype=np.float32),
        metadata={"year": year, "tags": tuple(tags)},
    ),
    identifiers,
    vectors,
    texts,
    st.integers(2018, 2022),
    st.lists(st.sampled_from(["a", "b"]), max_size=2),
)

FILTERS = {
    "year": ({"year": {"gte": 2020}}, lambda d: d.metadata["year"] >= 2020),
    "tag": ({"tags": "a"}, lambda d: "a" in d.metadata["tags"]),
    "both": (
        {"year": {"lt": 2021}, "not": {"tags": "b"}},
        lambda d: d.metadata["year"] < 2021 and "b" not in d.metadata["tags"],
    ),
    "either": (
        {"or": [{"year": 2018}, {"year": {"in": [2021, 2022]}}]},
        lambda d: d.metadata["year"] in (2018, 2021, 2022),
    ),
}


class CollectionMachine(RuleBasedStateMachine):
    @initialize(tail=st.sampled_from([0, 2, 1000]), kind=st.sampled_from(KINDS), background=st.booleans())
    def create(self, tail, kind, background):
        # Small limits make files grow and be rewritten, and indices be built, within a few steps.
        self.patched = pytest.MonkeyPatch()
        for module, name, value in (
            (derived, "TAIL", tail), (indexer, "TAIL", tail), (view, "EXACT_BELOW", 1), (kinds, "INDEXED_FROM", 4),
            (indexer, "SCANNED", 2), (indexer, "GROWN", 1.5),
        ):  # fmt: skip
            self.patched.setattr(module, name, value)
        self.folder = Path(tempfile.mkdtemp())
        self.kind = kind
        self.background = background
        self.collection = Collection.create(self.folder / "c", encoder=None, kind=kind, background=background)
        self.other = self.opened()
        self.oracle = Oracle()
        self.generation = 0

    def opened(self, name="c"):
        return Collection.open(self.folder / name, background=self.background)

    @rule(batch=st.lists(documents, min_size=1, max_size=12), other=st.booleans())
    def upsert(self, batch, other):
        expected = dict(self.oracle.documents)
        result = (self.other if other else self.collection).upsert(batch)
        last = {document.id: document for document in batch}
        unchanged = [i for i, document in last.items() if i in expected and _same(expected[i], document)]
        assert (result.added, result.updated, result.unchanged) == (
            len([i for i in last if i not in expected]),
            len([i for i in last if i in expected and i not in unchanged]),
            len(unchanged),
        )
        assert result.generation == self.generation + (len(unchanged) < len(last))
        self.generation = result.generation
        self.oracle.documents.update(last)

    @rule(ids=st.lists(identifiers, min_size=1, max_size=3))
    def delete(self, ids):
        there = {i for i in ids if i in self.oracle.documents}
        result = self.collection.delete(ids=ids)
        assert result.deleted == len(there)
        self.generation = result.generation
        for identifier in there:
            del self.oracle.documents[identifier]

    @precondition(lambda self: self.oracle.documents)
    @rule(year=st.integers(2018, 2022))
    def delete_by_filter(self, year):
        gone = [d.id for d in self.oracle.passing(lambda d: d.metadata["year"] == year)]
        result = self.collection.delete(filter={"year": year})
        assert result.deleted == len(gone)
        self.generation = result.generation
        for identifier in gone:
            del self.oracle.documents[identifier]

    @precondition(lambda self: self.oracle.documents)
    @rule(query=vectors, k=st.integers(1, 15), other=st.booleans())
    def search_dense(self, query, k, other):
        result = (self.other if other else self.collection).search(SearchRequest(vector=list(query)), k=k)
        assert result.generation == self.generation
        assert_same_ranking(result.hits, self.oracle.dense(query), k)

    @precondition(lambda self: any("a" in d.metadata["tags"] for d in self.oracle.documents.values()))
    @rule(query=vectors, name=st.sampled_from(sorted(FILTERS)), word=st.sampled_from(WORDS))
    def search_filtered(self, query, name, word):
        filter_, condition = FILTERS[name]
        hits = self.collection.search(SearchRequest(vector=list(query), filter=filter_), k=20).hits
        assert_same_ranking(hits, self.oracle.dense(query, condition), 20)
        found = {hit.id for hit in self.collection.search(word, mode="lexical", k=20, filter=filter_).hits}
        assert found == self.oracle.lexical(word, condition)
        assert self.collection.count(filter_) == len(self.oracle.passing(condition))

    @precondition(lambda self: self.oracle.documents)
    @rule(data=st.data())
    def search_like(self, data):
        one = data.draw(st.sampled_from(sorted(self.oracle.documents)))
        hits = self.collection.search(SearchRequest(like=one), k=20).hits
        expected = self.oracle.dense(self.oracle.documents[one].vector, lambda d: d.id != one)
        assert_same_ranking(hits, expected, 20)

    @precondition(lambda self: self.oracle.documents)
    @rule(query=vectors, word=st.sampled_from(WORDS))
    def hybrid_finds_what_either_side_finds(self, query, word):
        request = SearchRequest(text=word, vector=list(query), k=50)
        found = {hit.id for hit in self.collection.search(request).hits}
        assert found == set(self.oracle.documents)
        assert self.oracle.lexical(word) <= found

    @rule()
    def reopen(self):
        self.collection.close()
        self.collection = self.opened()

    @rule()
    def settle(self):
        self.collection.settle()
        # Else the threads are writing what isn't there yet.
        assert self.background or left_over(self.folder / "c") == []

    @rule()
    def switch_the_background(self):
        self.background = not self.background
        self.collection.close()
        self.collection = self.opened()

    @rule()
    def restore_a_snapshot(self):
        """In the place of the collection; those that have the old one open meet that."""
        self.collection.snapshot(self.folder / "snapshot")
        root = Root(self.folder)
        root.drop("c")
        with pytest.raises(CollectionReplaced):
            self.other.count()
        root.restore(self.folder / "snapshot", "c")
        self.collection.close()
        self.other.close()
        self.collection, self.other = self.opened(), self.opened()

    @rule(kind=st.sampled_from(KINDS))
    def change_the_kind(self, kind):
        self.collection.optimize(kind=kind)
        self.generation += kind != self.kind
        self.kind = kind

    @rule(part=st.sampled_from(["dense", "lexical", "keeper.state"]))
    def lose_a_derived_file(self, part):
        path = self.folder / "c" / part
        self.collection.close()
        self.other.close()
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        self.collection, self.other = self.opened(), self.opened()

    @rule()
    def optimize(self):
        self.collection.optimize()

    @rule()
    def verify(self):
        report = self.collection.verify()
        assert report.ok, report.problems

    @invariant()
    def holds_what_was_put(self):
        if hasattr(self, "collection"):
            assert self.collection.count() == len(self.oracle.documents)

    def teardown(self):
        if hasattr(self, "collection"):
            assert_equals_oracle(self.collection, self.oracle)
            assert_equals_oracle(self.other, self.oracle)
            self.collection.close()
            self.other.close()
            self.patched.undo()
            shutil.rmtree(self.folder)


def _same(one: Document, other: Document) -> bool:
    return one.digest(None) == other.digest(None)


CollectionMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20)
TestCollection = CollectionMachine.TestCase


@pytest.mark.soak
def test_long_sequences_of_calls_equal_the_oracle():
    run_state_machine_as_test(
        CollectionMachine,
        settings=settings(max_examples=400, stateful_step_count=40, derandomize=False, print_blob=True),
    )
