"""Several processes on one collection at once: each answer is that of its generation, and nothing fails."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import orjson
import pytest

from retriever import Collection
from tests.retriever.oracle import Oracle, assert_same_ranking
from tests.retriever.small import FILTERS, assert_answers, index_matters, left_over, made

# Each process prints JSON lines. Argv of all: folder, seconds.
START = """
import itertools, sys, threading, time
import numpy as np, orjson
from retriever import Collection, SearchRequest
from tests.retriever.oracle import WORDS
from tests.retriever.small import FILTERS, KINDS, drawn, index_matters, made
index_matters()
folder, end = sys.argv[1], time.monotonic() + float(sys.argv[2])
def numbers():
    return itertools.takewhile(lambda _: time.monotonic() < end, itertools.count())
def say(**values):
    sys.stdout.write(orjson.dumps(values).decode() + "\\n")
    sys.stdout.flush()
"""
# What was written, by generation: put [numbers, version], or deleted ids.
BUILD = (
    START
    + """
collection = Collection.open(folder, background=False)
for number in numbers():
    places = [place % 90 for place in range(number * 7, number * 7 + 12)]
    result = collection.upsert([made(place, number) for place in places])
    say(generation=result.generation, put=[places, number])
    if number % 5 == 4:
        collection.settle()
"""
)
COMMAND = (
    START
    + """
for number in numbers():
    collection = Collection.open(folder, background=False)
    if number % 4 == 0:
        places = list(range(90, 120))
        result = collection.upsert([made(place, number) for place in places])
        say(generation=result.generation, put=[places, number])
    elif number % 4 == 1:
        ids = [f"d{place}" for place in range(90 + number % 3, 120, 3)]
        say(generation=collection.delete(ids=ids).generation, deleted=ids)
    elif number % 4 == 2:
        collection.snapshot(f"{folder}.snapshot")
    else:
        collection.optimize(kind=KINDS[number // 4 % 4])
        say(generation=None)
    assert collection.info().bytes > 0
    collection.close()
"""
)
# Two threads search, the keeper works beside them.
SERVE = (
    START
    + """
collection = Collection.open(folder)
failed = []
def search(seed):
    rng = np.random.default_rng(seed)
    for number in numbers():
        query, word = drawn(rng).tolist(), WORDS[number % len(WORDS)]
        name = sorted(FILTERS)[number % 2]
        asked = [
            SearchRequest(vector=query), SearchRequest(vector=query, filter=FILTERS[name][0]),
            SearchRequest(text=word, mode="lexical", k=200), SearchRequest(text=word, vector=query, k=200),
        ]
        answers = collection.search_many(asked)
        say(
            query=query, word=word, filter=name,
            answers=[[one.generation, [[hit.id, hit.score] for hit in one.hits]] for one in answers],
        )
def guarded(seed):
    try:
        search(seed)
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=guarded, args=(seed,)) for seed in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
collection.close()
if failed:
    raise failed[0]
"""
)


class Hit:
    def __init__(self, identifier, score):
        self.id, self.score = identifier, score


def oracles(writes, last):
    """Generation -> oracle, of all that were written. A change of the kind of index is a generation without a write."""
    by_generation = {write["generation"]: write for write in writes}
    oracle, found = Oracle(), {}
    for generation in range(last + 1):
        write = by_generation.get(generation, {})
        if "put" in write:
            places, version = write["put"]
            oracle.documents.update({f"d{place}": made(place, version) for place in places})
        for identifier in write.get("deleted", ()):
            oracle.documents.pop(identifier, None)
        found[generation] = Oracle(dict(oracle.documents))
    return found


def check(answer, known):
    """The four answers are those of the generation that they name."""
    _, condition = FILTERS[answer["filter"]]
    (g, dense), (_, filtered), (_, lexical), (_, hybrid) = answer["answers"]
    assert {generation for generation, _ in answer["answers"]} == {g}
    assert_same_ranking([Hit(*pair) for pair in dense], known[g].dense(answer["query"]), 10)
    assert_same_ranking([Hit(*pair) for pair in filtered], known[g].dense(answer["query"], condition), 10)
    assert {identifier for identifier, _ in lexical} == known[g].lexical(answer["word"])
    assert {identifier for identifier, _ in hybrid} == set(known[g].documents)


def work_together(folder, seconds):
    with Collection.create(folder, encoder=None, kind="ivf", background=False) as collection:
        # With a year and a tag: what no document has can't be filtered by.
        first = collection.upsert([made(1)]).generation
    with ThreadPoolExecutor(3) as pool:
        run = partial(subprocess.run, capture_output=True, cwd=Path(__file__).parents[2], check=False)
        commands = [[sys.executable, "-c", script, folder, str(seconds)] for script in (BUILD, COMMAND, SERVE)]
        ended = list(pool.map(run, commands))
    for process in ended:
        assert process.returncode == 0, process.stderr.decode()[-3000:]
    built, commanded, answers = ([orjson.loads(line) for line in process.stdout.splitlines()] for process in ended)
    with Collection.open(folder, background=False) as collection:
        writes = [{"generation": first, "put": [[1], 0]}, *built, *commanded]
        known = oracles(writes, collection.generation)
        for answer in answers:
            check(answer, known)
        assert_answers(collection, known[collection.generation])
        collection.settle()
        assert collection.verify().problems == []
        assert left_over(folder) == []
    return len(built), len(commanded), len(answers)


@pytest.fixture(autouse=True)
def _index_matters(monkeypatch):
    index_matters(monkeypatch.setattr)


def test_a_build_a_service_and_commands_work_together(tmp_path):
    assert all(work_together(tmp_path / "c", 3))


@pytest.mark.soak
def test_a_build_a_service_and_commands_work_together_for_long(tmp_path):
    assert all(work_together(tmp_path / "c", 120))
