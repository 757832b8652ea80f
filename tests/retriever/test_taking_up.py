"""An open collection and what others put on the disk meanwhile: taken up once it is sound, made again where it isn't.

Another handle stands for another process: they share nothing but the files.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import orjson
import pytest

from retriever import Collection, SearchRequest, upkeep
from retriever.bm25 import LexicalSnapshot
from retriever.derived import Derived
from retriever.files import DamagedIndex, locked
from tests.retriever.oracle import WORDS
from tests.retriever.small import assert_answers, delete, drawn, filled, index_matters, put

SECONDS = 60


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def built(path):
    """What is noted of the dense index on the disk."""
    return orjson.loads((path / "dense" / "current.json").read_bytes())


def used(collection):
    """The kind of index that a search uses, and whether it compares everything."""
    plan = collection.search(SearchRequest(vector=drawn(np.random.default_rng(3)).tolist(), explain=True)).plan
    return plan["kind"], plan["exact"]


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path):
    path.write_bytes(b"\0garbage" * 40)


def index_file(path):
    return path / "dense" / built(path)["index"]["files"]["main"]["name"]


def column(name):
    return lambda path: path / "dense" / f"{built(path)['build']}.{name}"


DAMAGE = {
    "a flipped byte in the FAISS file": (index_file, flip, "the dense index"),
    "half of the FAISS file": (index_file, cut, "the dense index"),
    "half of the vectors": (column("vectors"), cut, "the mapped vectors"),
    "a flipped byte in the keys": (column("keys"), flip, "the mapped vectors"),
    "garbage in current.json": (lambda path: path / "dense" / "current.json", garbage, "the mapped vectors"),
}
LEXICAL = {
    "garbage in meta.json": lambda path: garbage(path / "lexical" / "meta.json"),
    "a flipped byte in each segment": lambda path: [flip(file) for file in (path / "lexical").glob("*.term")],
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c"


@pytest.fixture
def served(path, monkeypatch):
    """A collection open as a service has it, which has searched by its index; another handle; and the oracle."""
    index_matters(monkeypatch.setattr)
    monkeypatch.setattr(upkeep, "RETRY_SECONDS", 0.05)
    made, oracle = filled(path, "ivf")
    made.settle()
    made.close()
    with Collection.open(path) as collection, Collection.open(path, background=False) as other:
        assert used(collection) == ("ivf", False)
        yield collection, other, oracle


@contextmanager
def nobody_builds(path):
    """While it lasts, no index can be built again."""
    with locked(path / "indexer.lock", wait=True):
        yield


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_dense_side_is_not_taken_up_and_what_was_before_answers_until_it_is_built_again(served, path, damage):
    collection, other, oracle = served
    file, harm, part = DAMAGE[damage]
    delete(other, oracle, range(60, 80))
    other.optimize()
    harm(file(path))
    with nobody_builds(path):
        until(lambda: used(collection) and collection.troubles)
        [trouble] = collection.troubles
        assert part in trouble
        assert str(path) not in trouble
        put(collection, oracle, range(200, 203))
        for seed in range(3):
            assert_answers(collection, oracle, seed)
            assert used(collection) == ("ivf", False)
    until(lambda: used(collection) == ("ivf", False) and not collection.troubles)
    assert built(path)["index"] is not None
    assert_answers(collection, oracle)
    assert collection.verify().ok


@pytest.mark.parametrize("damage", LEXICAL)
def test_a_damaged_lexical_index_is_made_again_while_the_one_before_answers(served, path, damage, caplog):
    collection, other, oracle = served
    delete(other, oracle, range(60, 80))
    other.optimize()
    LEXICAL[damage](path)
    with locked(path / "keeper.lock", wait=True):  # nobody can make anything again
        for seed in range(3):
            assert_answers(collection, oracle, seed)
    until(lambda: used(collection) and "the lexical index can't be used" in caplog.text)
    until(lambda: used(collection) and not collection.troubles)
    assert_answers(collection, oracle)
    assert collection.verify().ok


def test_no_search_waits_while_newer_files_cannot_be_opened_yet(served, path):
    collection, other, oracle = served
    other.optimize(kind="hnsw")
    garbage(path / "dense" / "current.json")
    with locked(path / "keeper.lock", wait=True):
        put(collection, oracle, range(300, 340))
        delete(collection, oracle, range(100, 110))
        assert_answers(collection, oracle)
    until(lambda: used(collection) == ("hnsw", False))
    assert_answers(collection, oracle)


def test_a_rebuilt_index_of_another_process_is_opened_beside_the_searches_and_then_used(served):
    collection, other, oracle = served
    for kind in ("hnsw", "rabitq", "flat"):
        other.optimize(kind=kind)
        until(lambda kind=kind: assert_answers(collection, oracle) or used(collection)[0] == kind)
        assert collection.troubles == []


def test_a_keeper_that_cannot_work_is_said_until_it_can(served, path):
    collection, _, oracle = served
    (path / "keeper.state").unlink()
    (path / "keeper.state").mkdir()
    put(collection, oracle, range(400, 420))
    until(lambda: collection.troubles)
    assert "stays behind: a file of c can't be read" in collection.troubles[0]
    assert_answers(collection, oracle)
    (path / "keeper.state").rmdir()
    until(lambda: not collection.troubles)
    assert_answers(collection, oracle)


def test_what_breaks_under_an_open_view_is_made_again_once_for_all_who_ask(served, monkeypatch):
    collection, _, oracle = served
    broken, asking, made_again = [], threading.Barrier(4), []
    search, rebuild = LexicalSnapshot.search, Derived.rebuild_lexical

    def breaking(self, *arguments):
        if self in (broken or [self]):
            broken.append(self)
            asking.wait(SECONDS)
            raise DamagedIndex("unreadable")
        return search(self, *arguments)

    monkeypatch.setattr(LexicalSnapshot, "search", breaking)
    monkeypatch.setattr(Derived, "rebuild_lexical", lambda self: made_again.append(rebuild(self)))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(collection.search, WORDS[0], mode="lexical", k=200) for _ in range(4)]
        assert [{hit.id for hit in one.result().hits} for one in asked] == [oracle.lexical(WORDS[0])] * 4
    assert len(made_again) == 1
