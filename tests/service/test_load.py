"""The service under more load than it can take, with real requests to a real server."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from retriever.documents import Document
from retriever.encoder import Encoder
from retriever.root import Root
from service.app import create_app
from service.library import WRITERS
from service.settings import Settings
from tests.models import tiny_text_model
from tests.service.conftest import NOTES, ready, running
from tests.service.held import Held, metric, until

SEARCH = "/v1/collections/notes/search"
DOCUMENTS = "/v1/collections/notes/documents"


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("POLYSEEK_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A root with the collection `notes`, which the test may write to."""
    with Root(tmp_path / "data").create("notes", encoder=Encoder.load("multilingual")) as notes:
        notes.upsert(NOTES)
    return tmp_path / "data"


@contextmanager
def held(path: Path, **settings: Any) -> Iterator[tuple[httpx.Client, Held]]:
    """A service whose encoder can be told to wait."""
    app = create_app(Settings(root=path, **settings))
    encoder = Held.load("multilingual")
    app.state.library.root.load_encoder = lambda _name: encoder
    with running(app) as client:
        ready(client)
        try:
            yield client, encoder
        finally:
            encoder.release()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as pool:
        yield pool


def search(client: httpx.Client, text: str, **members: Any) -> httpx.Response:
    return httpx.post(client.base_url.join(SEARCH), json={"text": text, "timeout": 30, **members}, timeout=60)


def busy(pool: ThreadPoolExecutor, client: httpx.Client, encoder: Held) -> Future[httpx.Response]:
    """A search whose encoding is held."""
    encoder.hold()
    first = pool.submit(search, client, "the first of all")
    assert encoder.entered.acquire(timeout=60)
    return first


def queue_of(client: httpx.Client, length: int) -> Callable[[], bool]:
    return lambda: metric(client, "queue_length") == length


def test_searches_of_many_clients_are_encoded_together_and_each_gets_its_own_answer(path, pool):
    texts = ["green tea", "flour and salt", "Mond", "雨", "sleeping cat", "count the words", "water", "Erde"]
    with held(path) as (client, encoder):
        batches, encoded = metric(client, "batch_texts_count"), metric(client, "batch_texts_sum")
        first = busy(pool, client, encoder)
        others = [pool.submit(search, client, text, k=3) for text in texts]
        until(queue_of(client, len(texts)))
        encoder.release()
        answers = [other.result() for other in others]
        assert {answer.status_code for answer in (first.result(), *answers)} == {200}
        assert metric(client, "batch_texts_count") - batches == 2
        assert metric(client, "batch_texts_sum") - encoded == 1 + len(texts)
        assert all(answer.json()["timings_ms"]["queue"] > 0 for answer in answers)
        assert metric(client, "stage_seconds_count", stage="search") >= 1 + len(texts)
    with Root(path).open("notes") as notes:
        alone = [[hit.id for hit in notes.search(text, k=3).hits] for text in texts]
    assert [[hit["id"] for hit in answer.json()["hits"]] for answer in answers] == alone


def test_a_full_queue_refuses_with_a_time_to_ask_again_and_serves_those_who_wait(path, pool):
    with held(path, queue=2) as (client, encoder):
        first = busy(pool, client, encoder)
        waiting = [pool.submit(search, client, text) for text in ("one", "two")]
        until(queue_of(client, 2))
        refused = search(client, "three")
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert int(refused.headers["Retry-After"]) >= 1
        several = {"searches": [{"text": "four"}, {"text": "five"}]}
        assert client.post(f"{SEARCH}/batch", json=several).status_code == 503
        assert search(client, "water", mode="lexical").status_code == 200, "nothing to encode"
        encoder.release()
        assert [answer.result().status_code for answer in (first, *waiting)] == [200, 200, 200]
        assert search(client, "three").status_code == 200
        assert metric(client, "dropped_total", reason="full") == 3


def test_a_search_is_answered_at_its_deadline_and_then_never_encoded(path, pool):
    with held(path) as (client, encoder):
        first = busy(pool, client, encoder)
        late = search(client, "too late", timeout=0.1)
        assert (late.status_code, late.json()["code"]) == (504, "timed_out")
        assert not first.done(), "the encoder is still busy"
        encoder.release()
        assert first.result().status_code == search(client, "the next").status_code == 200
        assert "too late" not in encoder.tokenised
        assert metric(client, "dropped_total", reason="timed_out") == 1


def test_no_search_may_ask_for_more_time_than_the_service_gives(path, pool):
    with held(path, max_timeout=0.1) as (client, encoder):
        encoder.hold()
        assert search(client, "a long time", timeout=50).status_code == 504


def test_a_member_of_a_batch_is_late_alone(path, pool):
    searches = [{"text": "tea", "timeout": 0.1}, {"text": "water", "mode": "lexical"}, {"text": "tea", "timeout": 30}]
    with held(path) as (client, encoder):
        first = busy(pool, client, encoder)
        batch = pool.submit(client.post, f"{SEARCH}/batch", json={"searches": searches})
        until(queue_of(client, 2))
        late = search(client, "later than the batch's first", timeout=0.2)
        assert late.status_code == 504
        encoder.release()
        assert first.result().status_code == 200
        codes = [result.get("code") for result in batch.result().json()["results"]]
        assert codes == ["timed_out", None, None]


def test_the_search_of_a_client_that_left_is_never_encoded(path, pool):
    body = b'{"text": "given up", "timeout": 60}'
    head = "HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length"
    request = f"POST {SEARCH} {head}: {len(body)}\r\n\r\n"
    with held(path) as (client, encoder):
        first = busy(pool, client, encoder)
        with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
            connection.sendall(request.encode() + body)
            until(queue_of(client, 1))
        route = "/v1/collections/{name}/search"
        until(lambda: metric(client, "requests_total", method="POST", route=route, status="499") == 1)
        encoder.release()
        assert first.result().status_code == search(client, "the next").status_code == 200
        assert "given up" not in encoder.tokenised
        assert metric(client, "dropped_total", reason="client_gone") == 1


def test_a_text_that_breaks_the_encoder_does_not_hurt_its_neighbours(tmp_path, pool):
    model = _poisoned(tmp_path / "model")
    with Root(tmp_path / "data").create("notes", encoder=Encoder.load(model)) as notes:
        notes.upsert([Document(id="a", text="a good text", language="en")])
    with running(create_app(Settings(root=tmp_path / "data"))) as client:
        ready(client)
        answers = client.post(
            f"{SEARCH}/batch", json={"searches": [{"text": text, "mode": "dense"} for text in ("good", "7", "text")]}
        ).json()["results"]
        assert [answer.get("code") for answer in answers] == [None, "model_unavailable", None]
        texts = ["7 of them" if number % 3 == 0 else f"good {number % 3}" for number in range(24)]
        found = list(pool.map(lambda text: search(client, text, mode="dense"), texts))
        assert [answer.status_code for answer in found] == [503 if "7" in text else 200 for text in texts]


def test_a_put_is_durable_visible_at_its_generation_and_the_same_again_changes_nothing(path):
    document = {"id": "new", "text": "A kettle whistles.", "language": "en"}
    with held(path) as (client, _):
        put = client.put(DOCUMENTS, json={"documents": [document]}).json()
        again = client.put(DOCUMENTS, json={"documents": [document]}).json()
        assert (put["added"], again["unchanged"], again["generation"]) == (1, 1, put["generation"])
        found = search(client, "kettle", min_generation=put["generation"]).json()
        assert found["generation"] == put["generation"]
        assert found["hits"][0]["id"] == "new"
        # Another process reads it before this one ends.
        command = "import sys; from retriever.root import Root; print(Root(sys.argv[1]).open('notes').get('new').text)"
        other = subprocess.run([sys.executable, "-c", command, path], capture_output=True, text=True, check=True)
        assert other.stdout == "A kettle whistles.\n"


def test_searches_are_answered_while_puts_hold_every_thread_for_writes(path, pool):
    with held(path, threads=WRITERS) as (client, encoder):
        encoder.hold("document")
        puts = [
            pool.submit(
                httpx.put, client.base_url.join(DOCUMENTS), json={"documents": [{"id": f"p{n}", "text": f"put {n}"}]},
                timeout=60,
            )
            for n in range(WRITERS + 3)
        ]  # fmt: skip
        for _ in range(WRITERS):
            assert encoder.entered.acquire(timeout=60)
        assert search(client, "green tea").json()["hits"][0]["id"] == "tea"
        assert client.get("/v1/collections/notes").status_code == 200
        assert not any(put.done() for put in puts)
        encoder.release()
        assert [put.result().status_code for put in puts] == [200] * len(puts)
        assert client.get(f"{DOCUMENTS}/p{WRITERS + 2}").status_code == 200


# Builds four batches of documents; before each is encoded it says so and waits for a line.
BUILD = """
import sys
from pathlib import Path
from retriever.build import BATCH_DOCUMENTS, build
from retriever.documents import Document
from retriever.encoder import Encoder
from retriever.root import Root

class Waiting(Encoder):
    def encode_documents(self, texts):
        print("encoding", flush=True)
        sys.stdin.readline()
        return super().encode_documents(texts)

root = Root(Path(sys.argv[1]))
root.load_encoder = Waiting.load
texts = (Document(id=f"b{n}", text=f"built {n}", language="en") for n in range(4 * BATCH_DOCUMENTS))
print(build(root, "notes", [texts]).added, flush=True)
"""


def test_a_put_beside_a_long_build_waits_for_none_of_its_batches(path):
    with (
        held(path) as (client, _),
        subprocess.Popen(
            [sys.executable, "-c", BUILD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as build,
    ):
        assert build.stdin is not None
        assert build.stdout is not None
        generations = []
        for turn in range(4):
            assert build.stdout.readline() == "encoding\n"
            # The build is in the middle of this batch, and stays there until the put was answered and found.
            put = client.put(DOCUMENTS, json={"documents": [{"id": f"p{turn}", "text": f"put {turn}"}]}).json()
            generations.append(put["generation"])
            assert client.get(f"{DOCUMENTS}/p{turn}").status_code == 200
            build.stdin.write("go on\n")
            build.stdin.flush()
        assert build.stdout.readline() == "1024\n"
        assert np.diff(generations).tolist() == [2, 2, 2], "one batch was committed between two puts"
        assert client.get("/v1/collections/notes").json()["documents"] == len(NOTES) + 1024 + 4


def test_a_batch_or_a_put_of_more_than_the_limit_is_refused_and_says_the_limit(path):
    with held(path, max_batch=2, max_documents=2) as (client, _):
        batch = client.post(f"{SEARCH}/batch", json={"searches": [{"text": "a"}] * 3})
        put = client.put(DOCUMENTS, json={"documents": [{"id": "a", "text": "a"}] * 3})
        deletion = client.post(f"{DOCUMENTS}/delete", json={"ids": ["a", "b", "c"]})
        for answer, pointer in ((batch, "/searches"), (put, "/documents"), (deletion, "/ids")):
            assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, pointer)
            assert "is 2" in answer.json()["detail"]


def _poisoned(folder: Path) -> Path:
    """A model that gives no finite vector for a text with a 7 in it."""
    tiny_text_model(folder)
    weights = load_file(folder / "model.safetensors")
    [name] = [name for name in weights if name.endswith("word_embeddings.weight")]
    pieces = Encoder.load(folder)._parts.loaded().tokenizer.get_vocab()
    weights[name][[pieces["7"], pieces["##7"]]] = np.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder
