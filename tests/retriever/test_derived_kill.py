"""Processes killed while they write, build, optimize: nothing answered is lost, and what they left behind goes."""

import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from retriever import Collection, SearchRequest
from tests.retriever.oracle import assert_same_ranking
from tests.retriever.small import after, assert_answers, drawn, index_matters, left_over

# Announces each step that was answered. Argv: folder, what it does, its first step.
WORK = """
import itertools, sys
from retriever import Collection
from tests.retriever.oracle import Oracle
from tests.retriever.small import KINDS, after, index_matters, step
index_matters()
folder, work, start = sys.argv[1], sys.argv[2], int(sys.argv[3])
collection, oracle = Collection.open(folder, background=work == "write"), Oracle(dict(after(start).documents))
print("ready", flush=True)
for number in itertools.count(start):
    step(collection, oracle, number)
    print(number + 1, flush=True)
    if work == "settle":
        collection.settle()
    if work == "optimize":
        collection.optimize(kind=KINDS[(KINDS.index(collection.info().kind_asked) + 1) % len(KINDS)])
"""
# Generations of one round: to ask for another kind is one too.
GENERATIONS = {"write": 1, "settle": 1, "optimize": 2}


@pytest.fixture(autouse=True)
def _index_matters(monkeypatch):
    index_matters(monkeypatch.setattr)


class Searcher(threading.Thread):
    """Searches the collection while another process writes, and compares each answer with its generation's oracle.

    steps: generation -> how many steps it is after.
    """

    def __init__(self, folder, steps):
        super().__init__()
        self._folder, self._steps = folder, steps
        self._done = threading.Event()
        self.answers = 0
        self.error = None

    def run(self):
        rng = np.random.default_rng(0)
        try:
            with Collection.open(self._folder, background=False) as collection:
                while not self._done.is_set():
                    query = drawn(rng)
                    found = collection.search(SearchRequest(vector=query.tolist()), k=10)
                    assert_same_ranking(found.hits, after(self._steps(found.generation)).dense(query), 10)
                    self.answers += 1
        except BaseException as error:
            self.error = error

    def finish(self):
        self._done.set()
        self.join()
        if self.error is not None:
            raise self.error
        assert self.answers


def kill_often(folder, work, rng, kills):
    """Kill the work at random instants, again and again; each time it goes on from what is stored."""
    Collection.create(folder, encoder=None, kind=rng.choice(["rabitq", "ivf", "hnsw"]), background=False).close()
    steps = 0
    for kill in range(kills):
        with Collection.open(folder, background=False) as collection:
            base = collection.generation

        def steps_at(generation, start=steps, base=base):
            return start + math.ceil((generation - base) / GENERATIONS[work])

        command = [sys.executable, "-c", WORK, folder, work, str(steps)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[2]
        )
        assert process.stdout.readline() == "ready\n"
        searcher = Searcher(folder, steps_at)
        searcher.start()
        time.sleep(rng.uniform(0.05, 1.5))
        os.kill(process.pid, signal.SIGKILL)
        announced = process.communicate()[0].split()
        searcher.finish()
        with Collection.open(folder, background=False) as collection:
            steps = steps_at(collection.generation)
            assert steps >= int(announced[-1] if announced else 0), "what was answered is lost"
            assert_answers(collection, after(steps), seed=kill)
            assert collection.verify().problems == []
            if rng.random() < 0.5:
                collection.settle()
            else:
                collection.optimize()
            assert left_over(folder) == []
            assert_answers(collection, after(steps), seed=kill)
            assert collection.verify().problems == []


@pytest.mark.parametrize("work", GENERATIONS)
def test_what_is_killed_leaves_a_whole_collection(tmp_path, work):
    kill_often(tmp_path / "c", work, random.Random(1), kills=2)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 106))
@pytest.mark.parametrize("work", GENERATIONS)
def test_fifty_kills_leave_a_whole_collection(tmp_path, work, seed):
    kill_often(tmp_path / "c", work, random.Random(seed), kills=10)
