"""A build that is killed at any instant and run again ends like one that was left alone; nothing committed is lost."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import orjson
import pytest

from retriever import Collection, SearchRequest
from tests.retriever.oracle import WORDS

DOCUMENTS, DIMENSION = 3000, 16

# Announces each committed batch, so that the test knows what must not be lost.
BUILD = """
import sys
from pathlib import Path
from retriever import build as module
from retriever.build import BuildOptions, build
from retriever.root import Root
module.BATCH_DOCUMENTS = 16  # many transactions of few documents
root, source = map(Path, sys.argv[1:])
print("ready", flush=True)
build(Root(root), "c", [source], BuildOptions(encoder="none"), lambda summary: print(summary.read, flush=True))
print("done", flush=True)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(7)
    np.save(folder / "vectors.npy", rng.standard_normal((DOCUMENTS, DIMENSION), dtype=np.float32))
    with (folder / "documents.jsonl").open("wb") as file:
        for number in range(DOCUMENTS):
            words = [WORDS[number % len(WORDS)], WORDS[number % 3], f"number{number}"]
            document = {"id": f"d{number}", "text": " ".join(words), "language": "en", "year": 2000 + number % 20}
            file.write(orjson.dumps(document) + b"\n")
    return folder


def start(root, source):
    process = subprocess.Popen([sys.executable, "-c", BUILD, root, source], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def answers(collection):
    """Everything a search can tell two collections apart by."""
    rng = np.random.default_rng(8)
    requests = [SearchRequest(vector=rng.standard_normal(DIMENSION).tolist(), k=100) for _ in range(5)]
    requests += [SearchRequest(text=word, mode="lexical", k=200) for word in (*WORDS, "number77")]
    requests += [SearchRequest(vector=[1.0] * DIMENSION, filter={"year": 2003}, k=200)]
    return [[(hit.id, round(hit.score, 4)) for hit in result.hits] for result in collection.search_many(requests)]


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    started = time.perf_counter()
    process = start(root, source)
    process.communicate()
    seconds = time.perf_counter() - started
    with Collection.open(root / "c") as collection:
        return answers(collection), sorted(collection.ids()), seconds


def kill_and_resume(source, root, undisturbed, rng):
    expected, ids, seconds = undisturbed
    for _ in range(3):
        process = start(root, source)
        time.sleep(rng.uniform(0, seconds * 0.6))
        os.kill(process.pid, signal.SIGKILL)
        announced = [line for line in process.communicate()[0].split() if line.isdigit()]
        if (root / "c").exists():
            with Collection.open(root / "c") as collection:
                assert collection.count() >= int(announced[-1] if announced else 0)
                assert collection.verify().ok
    process = start(root, source)
    process.communicate()
    assert process.returncode == 0
    with Collection.open(root / "c") as collection:
        assert sorted(collection.ids()) == ids
        assert answers(collection) == expected
        assert collection.verify().ok


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_build_run_again_ends_like_an_undisturbed_one(source, tmp_path, undisturbed, seed):
    kill_and_resume(source, tmp_path, undisturbed, random.Random(seed))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 117))
def test_fifty_kills_lose_nothing(source, tmp_path, undisturbed, seed):
    kill_and_resume(source, tmp_path, undisturbed, random.Random(seed))
