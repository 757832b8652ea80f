"""A collection is migrated, or an alias moved, while many search: not one search fails."""

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager

import httpx
import pytest

from retriever.errors import UnknownCollection
from retriever.migrate import migrate
from retriever.root import Root
from service.library import Library
from service.settings import Settings
from service.telemetry import Metrics
from tests.models import tiny_text_model
from tests.retriever.small import index_matters, spelled
from tests.service.conftest import NOTES, axes, ready, serving
from tests.service.held import until
from tests.service.many import COUNT, VECTORS, made, nearest, optimize
from tests.service.test_commands import polyseek

BODY = {"text": "water for the tea", "k": 3}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(tiny_text_model(folder / name, seed=seed)) for seed, name in enumerate(("one", "two"))]


@contextmanager
def searching(client: httpx.Client, ask: Callable[[httpx.Client], httpx.Response], threads: int = 4):
    """Search in several threads for the length of the block: counts of status and what the searches named."""
    stop = threading.Event()
    outcomes: Counter = Counter()

    def search():
        with httpx.Client(base_url=client.base_url, timeout=60) as own:
            while not stop.is_set():
                answer = ask(own)
                body = answer.json()
                outcomes[answer.status_code, body.get("collection"), body.get("code")] += 1

    workers = [threading.Thread(target=search) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield outcomes
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def test_no_search_fails_while_collections_are_migrated(tmp_path, models):
    root = Root(tmp_path)
    with root.create("notes", encoder=root.load_encoder(models[0])) as notes:
        notes.upsert(NOTES)
    with serving(Settings(root=root.path)) as client:
        ready(client)
        with searching(client, lambda own: own.post("/v1/collections/notes/search", json=BODY)) as outcomes:
            for turn in range(4):
                migrate(root, "notes", models[(turn + 1) % 2])
                answer = client.get("/v1/collections/notes").json()
                assert answer["encoder"] == models[(turn + 1) % 2]
        assert set(outcomes) == {(200, "notes", None)}
        assert sum(outcomes.values()) > 20


def test_what_is_put_while_a_collection_is_migrated_is_found_afterwards(tmp_path, models):
    root = Root(tmp_path)
    with root.create("notes", encoder=root.load_encoder(models[0])) as notes:
        notes.upsert(NOTES)
    put = []

    def write(own: httpx.Client) -> httpx.Response:
        document = {"id": f"p{len(put)}", "text": "put meanwhile"}
        answer = own.put("/v1/collections/notes/documents", json={"documents": [document]})
        put.append((document["id"], answer.json().get("generation", 0)))
        return answer

    with serving(Settings(root=root.path)) as client:
        ready(client)
        with searching(client, write, threads=1) as outcomes:
            for turn in range(2):
                migrate(root, "notes", models[(turn + 1) % 2])
        assert {status for status, _, _ in outcomes} == {200}
        generations = [generation for _, generation in put]
        assert generations == sorted(generations)
        newest = {"text": "put meanwhile", "min_generation": generations[-1], "k": 1}
        assert client.post("/v1/collections/notes/search", json=newest).status_code == 200
    with root.open("notes") as notes:
        assert {identifier for identifier, _ in put} <= set(notes.ids())


def test_a_call_whose_collection_is_replaced_under_it_is_made_again_on_the_new_one(root: Root):
    library = Library(root, threads=1, queue=1, dropped=Metrics().dropped)
    asked = []

    def replace_it_first(collection):
        asked.append(collection.identity)
        if len(asked) == 1:
            root.drop("axes")
            with root.create("axes", encoder=None) as again:
                again.upsert(axes(2))
        return collection.count()

    assert library.using("axes", replace_it_first) == 2
    assert len(set(asked)) == 2
    library.close()


def test_a_call_whose_alias_is_moved_while_it_is_opened_is_made_again(root: Root, monkeypatch):
    root.set_alias("live", "axes")
    library = Library(root, threads=1, queue=1, dropped=Metrics().dropped)
    opening = root.open

    def move_it_first(name):
        if name == "axes":
            with root.create("new", encoder=None) as collection:
                collection.upsert(axes(3))
            root.set_alias("live", "new")
            root.drop("axes")
        return opening(name)

    monkeypatch.setattr(root, "open", move_it_first)
    assert library.using("live", lambda collection: collection.count()) == 3
    with pytest.raises(UnknownCollection):
        library.using("axes", lambda collection: collection.count())
    library.close()


def test_no_search_fails_while_an_alias_is_moved_and_what_it_stood_for_dropped(root: Root):
    with serving(Settings(root=root.path)) as client:
        root.set_alias("live", "axes")
        body = {"vector": [0.0, 1.0, 0.0, 0.0], "k": 2}
        with searching(client, lambda own: own.post("/v1/collections/live/search", json=body)) as outcomes:
            former = "axes"
            for turn in range(8):
                name = f"axes{turn}"
                with root.create(name, encoder=None) as collection:
                    collection.upsert(axes())
                root.set_alias("live", name)
                root.drop(former)
                former = name
                while not outcomes[200, name, None] and not any(status != 200 for status, _, _ in list(outcomes)):
                    time.sleep(0.001)
        assert {(status, code) for status, _, code in outcomes} == {(200, None)}


def test_no_search_fails_while_another_process_builds_the_indices_anew(tmp_path, monkeypatch):
    index_matters(monkeypatch.setattr)
    root = made(tmp_path)
    turn = itertools.count()

    def ask(own: httpx.Client) -> httpx.Response:
        number = next(turn) % COUNT
        body = {"vector": VECTORS[number].tolist(), "k": 3, "explain": True}
        if number % 2:
            body |= {"text": spelled(number), "mode": "hybrid"}
        answer = own.post("/v1/collections/many/search", json=body)
        hits = [hit["id"] for hit in answer.json()["hits"]]
        # By both sides the document itself is the first.
        assert hits[0] == f"d{number}" if number % 2 else hits == nearest(number, COUNT)
        return answer

    with serving(Settings(root=root.path)) as client:
        ready(client)
        with searching(client, ask) as outcomes:
            for kind in ("hnsw", "flat", "ivf"):
                optimize(root, "--kind", kind)
                until(lambda kind=kind: ask(client).json()["plan"]["kind"] == kind)
        assert set(outcomes) == {(200, "many", None)}
        assert sum(outcomes.values()) > 20


def test_no_search_fails_while_another_process_builds_into_the_collection(tmp_path):
    root = Root(tmp_path / "data")
    with root.create("notes", encoder=root.load_encoder("multilingual")) as notes:
        notes.upsert(NOTES)
    lines = (
        json.dumps({"id": f"new{number}", "text": f"paragraph {number} of a long report"}) for number in range(3000)
    )
    (tmp_path / "new.jsonl").write_text("\n".join(lines))

    def ask(own: httpx.Client) -> httpx.Response:
        answer = own.post("/v1/collections/notes/search", json={"text": "green tea", "k": 1})
        assert [hit["id"] for hit in answer.json()["hits"]] == ["tea"]
        return answer

    command = ["index", "build", "notes", str(tmp_path / "new.jsonl"), "--root", str(root.path)]
    with serving(Settings(root=root.path)) as client:
        ready(client)
        with searching(client, ask) as outcomes:
            built = polyseek(tmp_path, *command)
        assert built.returncode == 0, built.stderr
        assert set(outcomes) == {(200, "notes", None)}
        found = client.post("/v1/collections/notes/search", json={"text": "paragraph 599", "k": 5}).json()
        assert "new599" in {hit["id"] for hit in found["hits"]}
