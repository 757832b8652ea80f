"""A migration that is killed at any instant leaves a whole collection, and run again ends like one left alone."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from retriever import Document, Root, SearchRequest
from tests.models import tiny_text_model
from tests.retriever.oracle import WORDS

DOCUMENTS = 1500

# Announces each committed batch, and the comparison of everything that ends in the switch.
MIGRATE = """
import sys
from retriever.migrate import migrate
from retriever.root import Root
root = Root(sys.argv[1])
root.load_encoder(sys.argv[2])
print("ready", flush=True)
summary = migrate(root, "c", sys.argv[2], progress=lambda summary: print(summary.copied, flush=True))
print("done", summary.copied, summary.documents, flush=True)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(tiny_text_model(folder / name, seed=seed)) for seed, name in enumerate(("one", "two"))]


@pytest.fixture(scope="module")
def encoders(models, tmp_path_factory):
    root = Root(tmp_path_factory.mktemp("encoders"))
    return {model: root.load_encoder(model) for model in models}


def made(path, models, encoders):
    root = Root(path)
    root.load_encoder = encoders.__getitem__
    with root.create("c", encoder=encoders[models[0]], language="en", passages="none") as collection:
        collection.upsert(
            [
                Document(id=f"d{n}", text=f"{WORDS[n % len(WORDS)]} {WORDS[n % 3]} number{n}", metadata={"n": n})
                for n in range(DOCUMENTS)
            ]
        )
        collection.settle()
    return root


def start(root, model):
    command = [sys.executable, "-c", MIGRATE, root.path, model]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout.readline() == "ready\n"
    return process


def answers(collection):
    requests = [SearchRequest(text=word, mode=mode, k=50) for word in WORDS for mode in ("dense", "lexical")]
    requests += [SearchRequest(text="kivo", filter={"n": {"lt": 50}}, k=50)]
    return [[(hit.id, round(hit.score, 4)) for hit in result.hits] for result in collection.search_many(requests)]


@pytest.fixture(scope="module")
def undisturbed(models, encoders, tmp_path_factory):
    root = made(tmp_path_factory.mktemp("undisturbed"), models, encoders)
    with root.open("c") as collection:
        before = answers(collection)
    process = start(root, models[1])
    started = time.perf_counter()
    process.communicate()
    seconds = time.perf_counter() - started
    with root.open("c") as collection:
        return {models[0]: before, models[1]: answers(collection)}, sorted(collection.ids()), seconds


def kill_and_resume(path, models, encoders, undisturbed, rng, kills):
    expected, ids, seconds = undisturbed
    root = made(path, models, encoders)
    copied = 0
    for _ in range(kills):
        process = start(root, models[1])
        time.sleep(rng.uniform(0, seconds * 1.05))
        os.kill(process.pid, signal.SIGKILL)
        announced = [line for line in process.communicate()[0].splitlines() if line.isdigit()]
        copied += int(announced[-1]) if announced else 0
        with root.open("c") as collection:
            # The old one or the new one, whole either way.
            assert sorted(collection.ids()) == ids
            assert answers(collection) == expected[collection.settings.encoder]
            assert collection.verify().ok
            switched = collection.settings.encoder == models[1]
    process = start(root, models[1])
    *_, done, count, documents = process.communicate()[0].split()
    assert (process.returncode, done, int(documents)) == (0, "done", DOCUMENTS)
    # What was announced is never encoded again.
    assert int(count) <= DOCUMENTS - copied
    assert not switched or int(count) == 0
    with root.open("c") as collection:
        assert collection.settings.encoder == models[1]
        assert sorted(collection.ids()) == ids
        assert answers(collection) == expected[models[1]]
        assert collection.verify().ok
    assert not (path / ".c.migrating").exists()


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_migration_run_again_ends_like_an_undisturbed_one(tmp_path, models, encoders, undisturbed, seed):
    kill_and_resume(tmp_path, models, encoders, undisturbed, random.Random(seed), kills=1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 113))
def test_fifty_kills_lose_nothing(tmp_path, models, encoders, undisturbed, seed):
    kill_and_resume(tmp_path, models, encoders, undisturbed, random.Random(seed), kills=4)
