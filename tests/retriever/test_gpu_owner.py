"""The queue in front of a device, its batches and its memory; FAISS on the CPU stands in the device's place."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest

from retriever import gpu
from retriever import owner as owner_module
from retriever.gpu import GAPS, HEADROOM, MAX_K, Ask, GpuFailed, obstacle, queries_at_once, resident_bytes
from retriever.gpu_training import filling
from retriever.owner import Owner, shared
from tests.gpu.host import Host

RNG = np.random.default_rng(2)
VECTORS = RNG.standard_normal((500, 16)).astype(np.float32)
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def owner(host):
    made = Owner(host)
    yield made
    made.close()


def nearest(queries, k, vectors=VECTORS):
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]


def calls(host):
    """How many queries each call on the device's last index had, from now on."""
    index, sizes = host.made[-1], []
    search = index.search

    def counted(queries, k):
        sizes.append(len(queries))
        return search(queries, k)

    index.search = counted
    return sizes


def waiting(owner, count):
    """Wait until so many are in the queue."""
    until = time.monotonic() + 10
    while len(owner._waiting) < count and time.monotonic() < until:
        time.sleep(0.001)
    assert len(owner._waiting) == count


def held_up(owner, searches):
    """What searches answer that all wait while one before them runs."""
    going, go = threading.Event(), threading.Event()
    blocker = owner.load(VECTORS[:1], None)
    search = blocker.index.search

    def slowly(queries, k):
        going.set()
        go.wait(10)
        return search(queries, k)

    blocker.index.search = slowly
    with ThreadPoolExecutor(len(searches) + 1) as pool:
        first = pool.submit(owner.search, blocker, 1, VECTORS[:1], 1)
        going.wait(10)
        answers = []
        for number, one in enumerate(searches, start=1):
            answers.append(pool.submit(owner.search, *one))
            waiting(owner, number)
        go.set()
        first.result()
        return [answer.result() for answer in answers]


def test_searches_that_wait_together_are_one_call(owner, host):
    matrix = owner.load(VECTORS, None)
    sizes = calls(host)
    queries = [VECTORS[n : n + 1 + n % 3] for n in range(20)]
    found = held_up(owner, [(matrix, 500, one, 10) for one in queries])
    assert sizes == [sum(map(len, queries))]
    for one, rows in zip(queries, found, strict=True):
        assert np.array_equal(rows, nearest(one, 10))


def test_searches_of_other_vectors_or_for_another_number_are_other_calls(owner, host):
    other = owner.load(-VECTORS, None)
    matrix = owner.load(VECTORS, None)
    sizes = calls(host)
    asked = [(matrix, 10), (other, 10), (matrix, 5), (matrix, 10)]
    found = held_up(owner, [(held, 500, VECTORS[:2], k) for held, k in asked])
    assert sizes == [4, 2]
    for (held, k), rows in zip(asked, found, strict=True):
        assert np.array_equal(rows, nearest(VECTORS[:2], k, VECTORS if held is matrix else -VECTORS))


def test_more_queries_than_the_temporary_memory_holds_go_in_parts(owner, host, monkeypatch):
    monkeypatch.setattr(gpu, "TEMPORARY", 100_000)
    matrix = owner.load(VECTORS, None)
    sizes = calls(host)
    assert np.array_equal(owner.search(matrix, 500, VECTORS[:50], 10), nearest(VECTORS[:50], 10))
    held_up(owner, [(matrix, 500, VECTORS[:9], 10), (matrix, 500, VECTORS[:9], 10), (matrix, 500, VECTORS[:9], 10)])
    at_once = queries_at_once(500, 16, 10)
    assert 18 <= at_once < 27
    assert sizes[-2:] == [18, 9]
    assert max(sizes) <= at_once
    assert sum(sizes) == 50 + 27


@pytest.mark.parametrize(("rows", "dimension", "k"), [(100, 8, 1), (1_000_000, 384, 100), (10_000_000, 1024, MAX_K)])
def test_the_queries_of_a_call_fit_the_temporary_memory_and_are_at_least_one(rows, dimension, k):
    count = queries_at_once(rows, dimension, k)
    scores = 2 * 4 * min(rows, gpu.TILE)
    assert count >= 1
    assert count * (scores + 4 * dimension + 12 * k) <= gpu.TEMPORARY


def test_nobody_waits_for_something_long(owner):
    matrix = owner.load(VECTORS, None)
    going, go = threading.Event(), threading.Event()

    def job(_):
        going.set()
        go.wait(10)
        return "done"

    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(owner.do, job)
        going.wait(10)
        assert owner.search(matrix, 500, VECTORS[:1], 1) is None
        go.set()
        assert long.result() == "done"
    assert owner.search(matrix, 500, VECTORS[:1], 1) is not None


def test_everything_is_done_in_one_thread(owner):
    names = {owner.do(lambda _: threading.current_thread()) for _ in range(3)}
    assert len(names) == 1
    assert threading.current_thread() not in names


def test_rows_that_were_added_meanwhile_are_not_what_was_asked_for(owner):
    matrix = owner.load(VECTORS[:400], None)
    owner.extend(matrix, VECTORS, None)
    assert owner.search(matrix, 400, VECTORS[:1], 1) is None
    assert np.array_equal(owner.search(matrix, 500, VECTORS[:7], 3), nearest(VECTORS[:7], 3))


def test_what_was_released_is_searched_no_more(owner):
    matrix = owner.load(VECTORS, None)
    owner.release(matrix)
    assert owner.search(matrix, 500, VECTORS[:1], 1) is None
    assert matrix.rows == 0


def test_a_limit_holds_for_all_vectors_together(owner):
    limit = resident_bytes(800, 16)
    first = owner.load(VECTORS, limit)
    with pytest.raises(GpuFailed, match="are more than"):
        owner.load(VECTORS, limit)
    owner.release(first)
    assert owner.load(VECTORS, limit).rows == 500


@pytest.mark.parametrize(("short", "fits"), [(0, True), (2, False)])
def test_without_a_limit_half_of_what_is_free_may_be_taken(monkeypatch, short, fits):
    monkeypatch.setattr(owner_module, "HEADROOM", 0)
    owner = Owner(Host(2 * resident_bytes(500, 16) - short))
    try:
        if fits:
            assert owner.load(VECTORS, None).rows == 500
            with pytest.raises(GpuFailed, match="are more than"):
                owner.load(VECTORS[:1], None)
        else:
            with pytest.raises(GpuFailed, match="are more than"):
                owner.load(VECTORS, None)
    finally:
        owner.close()


def test_vectors_grow_where_there_is_no_room_for_two_copies():
    host = Host(HEADROOM + resident_bytes(500, 16) + resident_bytes(10, 16))
    owner = Owner(host)
    try:
        limit = resident_bytes(500, 16)
        matrix = owner.load(VECTORS[:400], limit)
        owner.extend(matrix, VECTORS, limit)
        assert np.array_equal(owner.search(matrix, 500, VECTORS[:7], 3), nearest(VECTORS[:7], 3))
    finally:
        owner.close()


def test_vectors_that_can_t_grow_are_gone():
    owner = Owner(Host(HEADROOM + resident_bytes(450, 16)))
    try:
        matrix = owner.load(VECTORS[:400], resident_bytes(500, 16))
        with pytest.raises(GpuFailed, match="don't fit"):
            owner.extend(matrix, VECTORS, resident_bytes(500, 16))
        assert matrix.rows == 0
        assert owner.search(matrix, 0, VECTORS[:1], 1) is None
    finally:
        owner.close()


def test_an_error_of_a_job_reaches_whoever_asked_and_the_thread_lives_on(owner):
    with pytest.raises(ZeroDivisionError):
        owner.do(lambda _: 1 // 0)
    assert owner.do(lambda _: 1) == 1


def test_an_error_of_a_search_reaches_whoever_asked_and_the_thread_lives_on(owner, host):
    matrix = owner.load(VECTORS, None)
    with pytest.raises((AssertionError, ValueError)):
        owner.search(matrix, 500, VECTORS[:1, :5], 1)
    assert owner.search(matrix, 500, VECTORS[:1], 1) is not None


def test_what_the_device_can_t_do_is_one_error(owner):
    def fails(_):
        raise RuntimeError("cudaMalloc error out of memory\n")

    with pytest.raises(GpuFailed, match="out of memory"):
        owner.do(fails)


def test_closing_gives_everything_back(host):
    owner = Owner(host)
    matrix = owner.load(VECTORS, None)
    owner.close()
    assert host.closed
    assert matrix.rows == 0
    assert owner.search(matrix, 500, VECTORS[:1], 1) is None
    with pytest.raises(GpuFailed, match="closed"):
        owner.load(VECTORS, None)
    owner.release(matrix)


@pytest.mark.parametrize(
    "factory", ["IVF8,Flat", "IVF8,SQ8", "IVF8,PQ4x4", "IVF8,RaBitQ", "IVF8,PQ4x4fs", "SQ8", "PCA8,IVF8,Flat"]
)
def test_an_index_filled_by_lists_from_the_device_is_the_same_to_the_byte(owner, factory):
    index = faiss.index_factory(16, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(VECTORS)
    plain = faiss.clone_index(index)
    with filling(index, owner) as add:
        for part in (VECTORS[:200], VECTORS[200:]):
            add(part)
            plain.add(part)
    assert index.ntotal == 500
    assert np.array_equal(faiss.serialize_index(index), faiss.serialize_index(plain))
    assert sum(one.bytes for one in owner._matrices) == 0


@pytest.mark.parametrize(
    ("count", "dropped", "answers"),
    [(10, 0, True), (MAX_K, 0, True), (MAX_K + 1, 0, False), (10, MAX_K - 10, True), (10, MAX_K - 9, False)],
)
def test_a_device_selects_so_many_rows_and_no_more(count, dropped, answers):
    assert (obstacle(Ask(count, dropped)) is None) == answers


def test_the_page_on_gpus_lists_every_gap():
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", (DOCS / "gpu.md").read_text(), re.MULTILINE)
    assert set(rows) >= {(gap.what, gap.why, gap.instead) for gap in GAPS}


def test_without_a_gpu_there_is_no_owner():
    if gpu.gpus():
        pytest.skip("there is a GPU")
    assert shared() is None
