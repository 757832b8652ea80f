"""What lies on the device, when, and that it answers as the CPU does."""

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from retriever import Collection, SearchRequest
from retriever.gpu import MAX_K, resident_bytes
from tests.gpu.host import Host
from tests.retriever.conftest import document

COUNT, DIMENSION = 3_000, 32
RNG = np.random.default_rng(5)
VECTORS = RNG.standard_normal((COUNT, DIMENSION)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
QUERIES = VECTORS[:64] + 0.05 * RNG.standard_normal((64, DIMENSION)).astype(np.float32)


def made(numbers):
    return [document(f"d{number}", VECTORS[number], metadata={"number": int(number)}) for number in numbers]


@pytest.fixture
def collection(tmp_path, gpu_owner):
    with Collection.create(tmp_path / "c", encoder=None, kind="flat") as opened:
        opened.upsert(made(range(COUNT)))
        opened.settle()
        yield opened


def scored(collection, **members):
    """Of each query, ids and scores; ids that tie are sorted, so that any order of them is the same."""
    results = collection.search_many([SearchRequest(vector=query, **members) for query in QUERIES.tolist()])
    return [sorted((-hit.score, hit.id) for hit in result.hits) for result in results]


def on_gpu(collection, **members):
    return collection.search(SearchRequest(vector=QUERIES[0].tolist(), explain=True, **members)).plan["gpu"]


def test_the_device_answers_as_the_cpu_does(collection, tmp_path):
    found = scored(collection, k=100)
    assert on_gpu(collection, k=100)
    with Collection.open(tmp_path / "c", gpu_memory=0) as cpu:
        assert not on_gpu(cpu, k=100)
        assert scored(cpu, k=100) == found


@pytest.mark.parametrize(
    ("members", "answers"),
    [
        ({"k": 1_000}, True),
        ({"k": 10, "filter": {"number": {"gte": 100}}}, True),
        ({"k": 10, "filter": {"number": {"gte": MAX_K}}}, False),
        ({"k": 1_000, "filter": {"number": {"gte": 1_000}}}, False),
        ({"k": 10, "exact": True}, True),
    ],
    ids=str,
)
def test_what_the_device_can_t_answer_the_cpu_does(collection, tmp_path, members, answers):
    assert on_gpu(collection, **members) == answers
    with Collection.open(tmp_path / "c", gpu_memory=0) as cpu:
        assert scored(cpu, **members) == scored(collection, **members)


def test_more_results_than_the_device_selects_come_from_the_cpu(collection):
    assert on_gpu(collection)
    newest = collection._upkeep._held.view
    for count, gpu in ((MAX_K, True), (MAX_K + 1, False)):
        found = newest.nearest(QUERIES, count, newest.live)
        assert found.gpu == gpu
        assert all(len(slots) == count for slots, _ in found.rankings)


def test_rows_removed_since_are_never_found(collection):
    first = {identifier for found in scored(collection, k=10) for _, identifier in found}
    collection.delete(ids=sorted(first))
    after = scored(collection, k=10)
    assert on_gpu(collection)
    assert all(len(found) == 10 and not first & {identifier for _, identifier in found} for found in after)


def test_rows_added_since_are_found_before_they_are_on_the_device(collection):
    collection.delete(ids=[f"d{number}" for number in range(10)])
    assert collection.info().gpu == COUNT
    collection.upsert(made(range(10)))
    assert collection.search(SearchRequest(vector=VECTORS[3].tolist()), k=1).hits[0].id == "d3"
    collection.settle()
    assert collection.info().gpu == COUNT + 10
    assert collection.search(SearchRequest(vector=VECTORS[3].tolist()), k=1).hits[0].id == "d3"


def test_a_new_build_takes_the_place_of_the_old(collection, gpu_owner):
    before = scored(collection, k=10)
    collection.optimize()
    assert scored(collection, k=10) == before
    collection.settle()
    assert on_gpu(collection)
    assert scored(collection, k=10) == before
    assert held(gpu_owner) == resident_bytes(COUNT, DIMENSION)


def test_closing_gives_the_memory_back(collection, gpu_owner):
    assert held(gpu_owner) == resident_bytes(COUNT, DIMENSION)
    collection.close()
    assert held(gpu_owner) == 0


def held(gpu_owner):
    """What lies on the device, in bytes."""
    return sum(matrix.bytes for matrix in gpu_owner._matrices)


def test_thirty_two_threads_get_the_answers_of_one(collection):
    expected = scored(collection, k=20)
    start = threading.Barrier(32)

    def search(number):
        start.wait()
        result = collection.search(SearchRequest(vector=QUERIES[number].tolist()), k=20)
        return sorted((-hit.score, hit.id) for hit in result.hits)

    with ThreadPoolExecutor(32) as pool:
        assert list(pool.map(search, range(32))) == expected[:32]


def test_what_doesn_t_fit_the_budget_is_searched_on_the_cpu(tmp_path, gpu_owner, caplog):
    with Collection.create(tmp_path / "c", encoder=None, gpu_memory=resident_bytes(COUNT, DIMENSION) - 1) as small:
        small.upsert(made(range(COUNT)))
        with caplog.at_level(logging.WARNING):
            small.settle()
            small.settle()
        assert not on_gpu(small)
        assert small.info().gpu == 0
        assert len(scored(small, k=10)) == len(QUERIES)
    said = [record.message for record in caplog.records if "GPU" in record.message]
    assert len(said) == 1
    assert "are more than" in said[0]


def test_the_second_of_two_that_don_t_fit_together_is_searched_on_the_cpu(collection, tmp_path):
    limit = 2 * resident_bytes(COUNT, DIMENSION) - 1
    with Collection.create(tmp_path / "second", encoder=None, kind="flat", gpu_memory=limit) as second:
        second.upsert(made(range(COUNT)))
        second.settle()
        assert on_gpu(collection)
        assert not on_gpu(second)
        collection.close()
        second.settle()
        assert on_gpu(second)


@pytest.mark.parametrize("factory", ["IVF32,RaBitQ", "IVF32_HNSW8,SQ8", "PCA16,IVF32,SQ8"])
def test_an_index_built_with_the_device_finds_what_one_built_without_does(tmp_path, gpu_owner, factory):
    recalls = []
    for name, limit in (("gpu", None), ("cpu", 0)):
        with Collection.create(
            tmp_path / name, encoder=None, kind=factory, background=False, gpu_memory=limit
        ) as collection:
            collection.upsert(made(range(COUNT)))
            collection.optimize()
            assert collection.verify().ok
            recalls.append(collection.info().recall)
            assert collection.search(SearchRequest(vector=VECTORS[9].tolist()), k=1).hits[0].id == "d9"
    assert recalls[0] == pytest.approx(recalls[1], abs=0.05)


def test_a_device_that_fails_in_a_search_leaves_it_to_the_cpu(tmp_path, gpu_owner, caplog, monkeypatch):
    with Collection.create(tmp_path / "c", encoder=None, kind="flat") as collection:
        collection.upsert(made(range(COUNT)))
        collection.settle()
        expected = scored(collection, k=10)
        [matrix] = gpu_owner._matrices

        def fails(*_):
            raise RuntimeError("cudaMalloc error out of memory")

        monkeypatch.setattr(matrix.index, "search", fails, raising=False)
        with caplog.at_level(logging.WARNING):
            assert scored(collection, k=10) == expected
        assert sum("out of memory" in record.message for record in caplog.records) == 1
        collection.settle()
        assert on_gpu(collection)
        assert scored(collection, k=10) == expected


def test_a_forked_process_leaves_the_device_alone(collection):
    expected = scored(collection, k=10)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Where the owner were asked here, nobody would answer.
        found = collection._upkeep._residence.search(
            collection._upkeep._held.view.dense, QUERIES, 10, collection._upkeep._held.view.live
        )
        os.write(writing, b"cpu" if found is None else b"gpu")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 3) == b"cpu"
    assert scored(collection, k=10) == expected


def test_the_host_that_stands_for_a_gpu_counts_its_memory():
    host = Host(memory=1_000)
    host.matrix(4).add(np.ones((3, 4), dtype=np.float32))
    assert host.free() == 1_000 - resident_bytes(3, 4)
