"""The slow, obvious twin of a collection: a dict of documents and numpy over all of them."""

from dataclasses import dataclass, field

import numpy as np

from retriever import Collection, Document, SearchRequest

WORDS = ("kivo", "zumba", "trelk", "orvad", "plimo")


@dataclass
class Oracle:
    documents: dict[str, Document] = field(default_factory=dict)

    def passing(self, condition=lambda _: True):
        return [document for document in self.documents.values() if condition(document)]

    def dense(self, query, condition=lambda _: True):
        """(score, id) of the documents that pass, best first, scores rounded as the collection's are."""
        query = np.asarray(query, dtype=np.float64)
        scored = [
            (float(np.float32(np.round(document.vector.astype(np.float64) @ query, 6))), document.id)
            for document in self.passing(condition)
        ]
        return sorted(scored, key=lambda pair: (-pair[0], pair[1]))

    def lexical(self, word, condition=lambda _: True):
        return {document.id for document in self.passing(condition) if word in document.text.split()}


def assert_same_ranking(hits, expected, k):
    """The first k of a ranking, equal up to ties: the same scores, and at each score ids that have it."""
    shown = [hit.score for hit in hits]
    assert shown == [score for score, _ in expected[:k]]
    allowed = {}
    for score, identifier in expected:
        allowed.setdefault(score, set()).add(identifier)
    ids = [hit.id for hit in hits]
    assert len(set(ids)) == len(ids)
    for hit in hits:
        assert hit.id in allowed[hit.score]


def assert_equals_oracle(collection: Collection, oracle: Oracle):
    """Every document, and everything findable, is the oracle's."""
    assert set(collection.ids()) == set(oracle.documents)
    assert collection.count() == len(oracle.documents)
    for document in oracle.documents.values():
        stored = collection.get(document.id)
        assert (stored.text, stored.metadata, stored.title) == (document.text, document.metadata, document.title)
    for word in WORDS:
        found = {hit.id for hit in collection.search(word, mode="lexical", k=200).hits}
        assert found == oracle.lexical(word)
    query = [1.0, 0.25, -0.5]
    if oracle.documents:
        hits = collection.search(SearchRequest(vector=query), k=200).hits
        assert_same_ranking(hits, oracle.dense(query), 200)
