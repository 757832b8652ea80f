"""A small collection in which everything about its derived indices matters, and the oracle of what it answers.

So few rows that whatever an index finds is complete: each kind must answer as the oracle does.
"""

import numpy as np
import orjson

from retriever import Collection, SearchRequest, derived, indexer, kinds, view
from retriever.store import FILE_NAME
from retriever.vectors import COLUMNS
from tests.retriever.conftest import document
from tests.retriever.oracle import WORDS, Oracle, assert_same_ranking

DIMENSION = 16
KINDS = ("flat", "rabitq", "ivf", "hnsw")
FILTERS = {
    "year": ({"year": {"gte": 2010}}, lambda d: d.metadata["year"] >= 2010),
    "tag": ({"tags": "a"}, lambda d: "a" in d.metadata["tags"]),
}


def index_matters(set_attribute=setattr):
    """Have indices built and asked although there are few rows; `monkeypatch.setattr` undoes it."""
    set_attribute(view, "EXACT_BELOW", 2)
    set_attribute(kinds, "INDEXED_FROM", 64)
    set_attribute(indexer, "SCANNED", 4)
    set_attribute(derived, "TAIL", 8)
    set_attribute(indexer, "TAIL", 8)
    set_attribute(indexer, "GROWN", 1.3)


def drawn(rng):
    """A vector of eighths, whose products are the same in whatever order they are summed."""
    return (rng.integers(-8, 9, DIMENSION) / 8).astype(np.float32)


def spelled(number):
    """A number as a word of its own."""
    return "k" + "".join("aeioubdfgm"[int(digit)] + "k" for digit in str(number))


def made(number, version=0):
    """A document of which everything follows from its number and version; a few vectors are equal."""
    return document(
        f"d{number}",
        drawn(np.random.default_rng([number % 50, version])),
        text=f"{WORDS[number % len(WORDS)]} {WORDS[version % 3]} {spelled(number)}",
        metadata={"year": 2000 + number % 20, "tags": ("a", "b")[: number % 3]},
    )


def put(collection, oracle, numbers, version=0):
    """Write documents to both."""
    documents = [made(number, version) for number in numbers]
    result = collection.upsert(documents)
    oracle.documents.update({one.id: one for one in documents})
    return result


def delete(collection, oracle, numbers):
    """Remove documents from both."""
    ids = [f"d{number}" for number in numbers]
    collection.delete(ids=ids)
    for identifier in ids:
        oracle.documents.pop(identifier, None)


def filled(path, kind, **opening):
    """A collection of 140 documents and 6 behind its index, of which some were removed and changed, and its oracle."""
    collection, oracle = Collection.create(path, encoder=None, kind=kind, background=False, **opening), Oracle()
    put(collection, oracle, range(130))
    collection.settle()
    put(collection, oracle, range(125, 140), version=1)
    delete(collection, oracle, range(0, 20, 4))
    collection.settle()
    put(collection, oracle, range(140, 146))
    delete(collection, oracle, [33, 141])
    return collection, oracle


def assert_answers(collection, oracle, seed=1):
    """Dense, filtered, lexical and hybrid searches answer as the oracle does."""
    rng = np.random.default_rng(seed)
    for query in (drawn(rng) for _ in range(3)):
        hits = collection.search(SearchRequest(vector=query.tolist()), k=10).hits
        assert_same_ranking(hits, oracle.dense(query), 10)
        for filter_, condition in FILTERS.values():
            hits = collection.search(SearchRequest(vector=query.tolist(), filter=filter_), k=10).hits
            assert_same_ranking(hits, oracle.dense(query, condition), 10)
        found = collection.search(SearchRequest(text=WORDS[seed % 3], vector=query.tolist(), k=200)).hits
        assert {hit.id for hit in found} == set(oracle.documents)
    assert_lexical(collection, oracle)


def assert_lexical(collection, oracle):
    """Every word finds the documents that hold it, the filtered ones among them."""
    for word in (*WORDS, *map(spelled, (16, 33, 34, 132, 145))):
        assert {hit.id for hit in collection.search(word, mode="lexical", k=200).hits} == oracle.lexical(word)
    filter_, condition = FILTERS["year"]
    found = collection.search(WORDS[1], mode="lexical", k=200, filter=filter_).hits
    assert {hit.id for hit in found} == oracle.lexical(WORDS[1], condition)


def scores(collection):
    """What lexical searches score: id -> score, for each word."""
    return {word: {hit.id: hit.score for hit in collection.search(word, mode="lexical", k=200).hits} for word in WORDS}


def left_over(path):
    """Files that don't count."""
    current = orjson.loads((path / "dense" / "current.json").read_bytes())
    counting = {"current.json", *(f"{current['build']}.{column}" for column in COLUMNS)}
    counting |= {file["name"] for file in (current["index"] or {"files": {}})["files"].values()}
    committed = orjson.loads((path / "lexical" / "meta.json").read_bytes())["segments"]
    segments = {segment["segment_id"].replace("-", "") for segment in committed}
    return sorted(
        [file.name for file in (path / "dense").iterdir() if file.name not in counting]
        + [
            file.name
            for file in (path / "lexical").iterdir()
            if file.suffix not in (".json", ".lock") and file.name.split(".")[0] not in segments
        ]
        + [
            file.name
            for file in path.iterdir()
            if not file.name.startswith((FILE_NAME, "keeper.", "indexer.", "dense", "lexical"))
        ]
    )


def step(collection, oracle, number):
    """The write `number` of an endless sequence over 120 documents, each of one generation."""
    first = number * 7
    if number % 4 == 3:
        kept = sorted(int(identifier[1:]) for identifier in oracle.documents)
        delete(collection, oracle, kept[number % 5 :: 9])
    else:
        put(collection, oracle, [place % 120 for place in range(first, first + 12)], version=number)


class Nowhere:
    """A collection that takes everything and keeps nothing, for steps that only the oracle is to take."""

    def upsert(self, documents):
        pass

    def delete(self, ids):
        pass


_known = [Oracle()]


def after(steps):
    """The oracle after so many steps; not to be changed."""
    while len(_known) <= steps:
        oracle = Oracle(dict(_known[-1].documents))
        step(Nowhere(), oracle, len(_known) - 1)
        _known.append(oracle)
    return _known[steps]
