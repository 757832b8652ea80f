"""One contract for every kind of dense index: what is promised of a search doesn't depend on what finds it."""

import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

from retriever import Collection, Document, SearchRequest, indexer, view
from retriever.errors import InvalidRequest

COUNT, DIMENSION, TOPICS = 4_000, 64, 40
KINDS = ["flat", "rabitq", "hnsw", "ivf", "SQ8", "PQ32x4fs", "IVF32,PQ32x4fs", "PCA48,IVF32,SQ8"]


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


RNG = np.random.default_rng(3)
CENTRES = unit(RNG.standard_normal((TOPICS, DIMENSION)))


def drawn(count, topics=TOPICS):
    topic = RNG.integers(0, topics, count)
    return unit(CENTRES[topic] + 0.1 * RNG.standard_normal((count, DIMENSION))), topic


VECTORS, TOPIC = drawn(COUNT)
QUERIES, QUERY_TOPIC = drawn(60)
CHANCE = RNG.permutation(COUNT)


def made(number, vector=None, topic=None):
    return Document(
        id=f"d{number}", text=f"kivo t{TOPIC[number % COUNT]}", language="en",
        vector=VECTORS[number] if vector is None else vector,
        metadata={"chance": int(CHANCE[number % COUNT]), "topic": int(TOPIC[number] if topic is None else topic)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds") / "c"
    with Collection.create(folder, encoder=None, kind="flat", background=False) as collection:
        collection.upsert([made(number) for number in range(COUNT)])
    return folder


@pytest.fixture(autouse=True)
def _index_matters(monkeypatch):
    # Else so few rows would be compared exactly, whatever the kind.
    monkeypatch.setattr(view, "EXACT_BELOW", 2)
    monkeypatch.setattr(indexer, "SCANNED", 200)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def collection(stored, kind, tmp_path):
    shutil.copytree(stored, tmp_path / "c")
    with Collection.open(tmp_path / "c", background=False) as opened:
        opened.optimize(kind=kind)
        yield opened


def answers(collection, queries=QUERIES, **members):
    results = collection.search_many([SearchRequest(vector=query.tolist(), **members) for query in queries])
    return [[hit.id for hit in result.hits] for result in results]


def nearest(query, passing, k=10):
    """The ids of the true neighbours among the documents that pass: bool (COUNT,)."""
    scores = np.where(passing, VECTORS @ query, -np.inf)
    order = np.argsort(-scores, kind="stable")[:k]
    return {f"d{number}" for number in order if passing[number]}


def recall(found, passing_for):
    shares = []
    for query, ids, topic in zip(QUERIES, found, QUERY_TOPIC, strict=False):
        truth = nearest(query, passing_for(topic))
        shares.append(len(truth & set(ids)) / len(truth))
    return np.mean(shares)


def test_it_finds_what_was_asked_for_and_says_so(collection, kind):
    info = collection.info()
    assert info.kind == info.kind_asked == kind
    if kind != "flat":
        assert info.index.vectors == COUNT
        assert info.index.recall_of == "self-query"
    if kind != "PQ32x4fs":  # nothing of it can be tuned
        assert info.recall >= info.recall_asked == 0.95
    assert recall(answers(collection, k=10), lambda _: np.ones(COUNT, bool)) >= info.recall - 0.05


@pytest.mark.parametrize("share", [0.5, 0.03, 0.005])
def test_a_filter_that_lets_a_share_pass_at_random_loses_no_neighbours(collection, share):
    found = answers(collection, k=10, filter={"chance": {"lt": int(share * COUNT)}})
    passing = int(share * COUNT) > CHANCE
    assert all(len(ids) == 10 for ids in found)
    assert recall(found, lambda _: passing) >= 0.95


@pytest.mark.parametrize("topics", [20, 2])
def test_a_filter_that_lets_only_far_documents_pass_loses_no_neighbours(collection, topics):
    """The queries' own topics are left out, so that what is nearest doesn't pass."""
    wanted = [topic for topic in range(TOPICS) if topic not in set(QUERY_TOPIC[:10])][:topics]
    passing = np.isin(TOPIC, wanted)
    found = answers(collection, QUERIES[:10], k=10, filter={"topic": {"in": wanted}})
    assert all(len(ids) == 10 for ids in found)
    assert recall(found, lambda _: passing) >= 0.95


def test_as_many_are_found_as_there_are_however_many_are_asked_for(collection):
    assert all(len(ids) == 1000 for ids in answers(collection, QUERIES[:3], k=1000))
    few = int(np.count_nonzero(CHANCE < 30))
    assert all(len(ids) == few for ids in answers(collection, k=200, filter={"chance": {"lt": 30}}))


def test_an_exact_search_is_exact(collection):
    for query, result in zip(
        QUERIES,
        collection.search_many(
            [SearchRequest(vector=query.tolist(), k=10, exact=True, explain=True) for query in QUERIES]
        ),
        strict=True,
    ):
        scores = VECTORS.astype(np.float64) @ query.astype(np.float64)
        assert [hit.score for hit in result.hits] == pytest.approx(np.sort(scores)[::-1][:10], abs=2e-6)
        assert [hit.score for hit in result.hits] == pytest.approx(
            [scores[int(hit.id[1:])] for hit in result.hits], abs=2e-6
        )
        assert result.plan["exact"]


def test_queries_asked_together_are_answered_as_one_by_one(collection):
    assert answers(collection, k=10) == [answers(collection, [query], k=10)[0] for query in QUERIES]


def test_pages_follow_each_other(collection):
    whole = answers(collection, k=30)
    pages = zip(*(answers(collection, k=10, offset=offset) for offset in (0, 10, 20)), strict=True)
    assert [[*one, *two, *three] for one, two, three in pages] == whole


def test_writes_are_seen_at_once_and_the_removed_never_again(collection):
    gone = {identifier for found in answers(collection, QUERIES[:5], k=100) for identifier in found}
    collection.delete(ids=sorted(gone))
    collection.upsert([made(COUNT + number, QUERIES[number], topic=0) for number in range(5)])
    after = answers(collection, k=200)
    assert [found[0] for found in after[:5]] == [f"d{COUNT + number}" for number in range(5)]
    assert all(len(found) == 200 and not gone & set(found) for found in after)
    passing = ~np.isin(np.arange(COUNT), [int(identifier[1:]) for identifier in gone])
    assert recall([found[:15] for found in after], lambda _: passing) >= 0.95


def test_a_topic_removed_whole_leaves_the_next_ones_findable(collection):
    topic = QUERY_TOPIC[0]
    collection.delete(filter={"topic": int(topic)})
    passing = topic != TOPIC
    assert recall(answers(collection, k=10), lambda _: passing) >= 0.95


def test_what_is_added_is_taken_into_the_index(collection, kind):
    vectors, topics = drawn(300)
    collection.upsert(
        [made(COUNT + n, vector, topic) for n, (vector, topic) in enumerate(zip(vectors, topics, strict=True))]
    )
    before = answers(collection, vectors[:40], k=1)
    assert before == [[f"d{COUNT + n}"] for n in range(40)]
    collection.settle()
    info = collection.info()
    assert info.tail == 0
    if kind != "flat":
        assert info.index.vectors == COUNT + 300
    assert answers(collection, vectors[:40], k=1) == before
    assert collection.verify().ok


def test_opened_again_it_answers_the_same(collection, tmp_path):
    expected = answers(collection, k=20), answers(collection, k=20, filter={"chance": {"lt": COUNT // 2}})
    collection.close()
    with Collection.open(tmp_path / "c", background=False) as again:
        assert (answers(again, k=20), answers(again, k=20, filter={"chance": {"lt": COUNT // 2}})) == expected


def test_the_same_vectors_give_the_same_index(collection, stored, kind, tmp_path):
    shutil.copytree(stored, tmp_path / "twin")
    with Collection.open(tmp_path / "twin", background=False) as twin:
        twin.optimize(kind=kind)
        assert answers(twin, k=50) == answers(collection, k=50)


def test_recall_is_measured_on_the_queries_that_were_given(collection, kind):
    collection.set_queries(QUERIES)
    collection.settle()
    info = collection.info()
    if kind != "flat":
        assert info.index.recall_of == "queries"
        measured = recall(answers(collection, k=10), lambda _: np.ones(COUNT, bool))
        assert info.recall == pytest.approx(measured, abs=1e-9)


def test_a_higher_recall_is_reached_by_looking_further(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "c")
    with Collection.open(tmp_path / "c", background=False) as collection:
        collection.optimize(kind="IVF8,SQ8", recall=0.5)
        low = collection.info()
        collection.optimize(recall=1.0)
        high = collection.info()
    assert low.index.parameter["nprobe"] < high.index.parameter["nprobe"]
    assert low.recall < high.recall
    assert high.recall == 1.0


def test_an_index_that_another_has_built_is_used_at_the_next_search(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "c")
    with Collection.open(tmp_path / "c", background=False) as builder:
        with builder._store.writing() as writer:
            writer.change_settings(replace(writer.settings(), kind="rabitq"))
        with Collection.open(tmp_path / "c", background=False) as searcher:

            def used():
                result = searcher.search(SearchRequest(vector=QUERIES[0].tolist(), explain=True))
                return result.generation, result.plan["kind"]

            generation, kind = used()
            assert kind == "flat"
            builder.settle()
            assert used() == (generation, "rabitq")


def test_an_index_is_built_behind_searches_and_then_used(tmp_path):
    with Collection.create(tmp_path / "c", encoder=None, kind="rabitq") as collection:
        collection.upsert([made(number) for number in range(1_100)])
        deadline = time.monotonic() + 30
        while (plan := collection.search(SearchRequest(vector=QUERIES[0].tolist(), explain=True)).plan)["exact"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert plan["kind"] == "rabitq"


def test_a_kind_that_is_none_changes_nothing(collection):
    with pytest.raises(InvalidRequest, match="not 'tree'"):
        collection.optimize(kind="tree")
    assert collection.verify().ok


def test_an_index_that_too_few_are_left_to_train_gives_way_to_a_smaller_one(tmp_path):
    with Collection.create(tmp_path / "c", encoder=None, kind="IVF2048,SQ8", background=False) as collection:
        collection.upsert([made(number) for number in range(1_200)])
        collection.settle()
        assert collection.info().kind in ("ivf", "rabitq")
        assert recall(answers(collection, k=10), lambda _: np.arange(COUNT) < 1_200) >= 0.9
