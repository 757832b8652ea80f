"""What breaks other servers, sent between good neighbours: they get their answers, it gets its 4xx or is taken."""

import base64
import gzip
import io
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from retriever.encoder import Encoder
from retriever.root import Root
from service.settings import Settings
from tests.models import tiny_cross_encoder, two_tower_model
from tests.service.conftest import NOTES, axes, png, serving

PNG = png(size=16)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


# A PNG whose header says 60,000 x 60,000.
BOMB = PNG[:16] + (60_000).to_bytes(4, "big") * 2 + PNG[24:]

GOOD_PICTURES = {
    "one pixel": encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
    "CMYK": encoded(Image.new("CMYK", (16, 16)), "JPEG"),
    "16 bits": encoded(Image.fromarray(np.full((16, 16), 40_000, np.uint16)), "PNG"),
    "animated GIF": animated("GIF"),
    "animated WebP": animated("WEBP"),
    "transparent": encoded(Image.new("RGBA", (16, 16)), "PNG"),
    "very wide": encoded(Image.new("RGB", (8_000, 1)), "PNG"),
}
BAD_PICTURES = {
    "truncated": encoded(Image.effect_noise((64, 64), 50), "JPEG")[:900],
    "bomb": BOMB,
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "text": b"not a picture at all",
    "HTML": b"<!doctype html><img src='http://127.0.0.1/x.png'>",
    "a name": b"/etc/hostname",
}
GOOD_TEXTS = {
    "NUL": "water\0 and tea",
    "right to left": "\u202e\u202ewater\u202c \u0645\u064a\u0627\u0647",
    "controls": "\u0001\u0007\u001b[31mwater\u007f\u0085\u2028",
    "marks alone": "\u0301\u0302\u0303" * 50,
    "joined emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 20,
    "one letter": "a" * 100_000,
    "unassigned": "\U0010ffff\ufffe\uffff",
    "query syntax": 'text:"water" AND (tea OR *) -bread^99 [a TO z] \\',
}
BAD_TEXTS = {"lone surrogate": "water \ud800", "nothing but spaces": " \u3000\t", "too long": "x" * 1_000_001}
VECTORS: dict[str, Any] = {
    "wrong dimension": [1.0, 0.0],
    "empty": [],
    "too large for a float32": [1e39, 0, 0, 0],
    "texts": ["1", "0", "0", "0"],
    "nested": [[1, 0, 0, 0]],
    "nothing": [None] * 4,
    "zero": [0, 0, 0, 0],
}
MEMBERS: dict[str, dict[str, Any]] = {
    "huge k": {"k": 10**9},
    "negative k": {"k": -1},
    "k as a text": {"k": "10"},
    "k as a boolean": {"k": True},
    "k as a fraction": {"k": 1.5},
    "offset beyond": {"offset": 10**12},
    "unknown member": {"kay": 3},
    "deep filter": {"filter": json.loads('{"not":' * 300 + "{}" + "}" * 300)},
    "wide filter": {"filter": {"or": [{"number": i} for i in range(50_000)]}},
    "unknown field": {"filter": {"nothing": 1}},
    "no timeout": {"timeout": 0},
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service over `notes` (text), `axes` (vectors) and `photos` (two towers)."""
    folder = tmp_path_factory.mktemp("poison")
    root = Root(folder / "data")
    with root.create("notes", encoder=Encoder.load("multilingual")) as notes:
        notes.upsert(NOTES)
    with root.create("axes", encoder=None) as collection:
        collection.upsert(axes())
    root.create("photos", encoder=Encoder.load(str(two_tower_model(folder / "towers")))).close()
    reranker = str(tiny_cross_encoder(folder / "reranker"))
    with serving(Settings(root=root.path, reranker=reranker, max_text_characters=1_000_000)) as client:
        photos = [{"id": color, "image": text(png(color, 16))} for color in ("red", "blue")]
        assert client.put("/v1/collections/photos/documents", json={"documents": photos}).json()["added"] == 2
        yield client


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def ids(result: dict[str, Any]) -> list[str]:
    return [hit["id"] for hit in result["hits"]]


def batch(client: httpx.Client, collection: str, searches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    body = json.dumps({"searches": searches})  # json, for lone surrogates
    answer = client.post(f"/v1/collections/{collection}/search/batch", content=body, headers=JSON)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert len(results) == len(searches)
    return results


def between(
    client: httpx.Client, collection: str, good: list[dict[str, Any]], poison: dict[str, Any]
) -> dict[str, Any]:
    """What the poison is answered between the good searches, which are answered as they are alone."""
    first, last = good
    alone = [ids(client.post(f"/v1/collections/{collection}/search", json=search).json()) for search in good]
    before, answer, after = batch(client, collection, [first, poison, last])
    assert [ids(before), ids(after)] == alone
    return answer


def check_refused(answer: dict[str, Any]) -> None:
    """A problem that says what is wrong, without telling of the machine."""
    assert 400 <= answer["status"] < 500, answer
    assert answer["code"] != "internal"
    assert len(answer["detail"]) > 10
    assert not any(word in json.dumps(answer) for word in ("Traceback", "/tmp", "site-packages", "object at 0x"))


JSON = {"Content-Type": "application/json"}
TEA = [{"text": "brewed with water", "k": 2}, {"text": "Katze", "k": 2}]
AXES = [{"vector": [1, 0, 0, 0], "k": 2}, {"vector": [0, 0, 0, 1], "k": 2}]
PHOTOS = [{"image": text(png("red", 16)), "k": 2}, {"image": text(png("blue", 16)), "k": 2}]


@pytest.mark.parametrize("picture", GOOD_PICTURES.values(), ids=GOOD_PICTURES)
def test_an_odd_picture_is_searched_by_and_stored_beside_others(client: httpx.Client, picture: bytes):
    assert ids(between(client, "photos", PHOTOS, {"image": text(picture), "k": 2}))
    documents = [{"id": f"n{i}", "image": text(each)} for i, each in enumerate((PNG, picture, png("blue", 16)))]
    stored = client.put("/v1/collections/photos/documents", json={"documents": documents}).json()
    assert (stored["rejected"], stored["pictures_unsearched"]) == ([], 0)
    thumbnail = client.get("/v1/collections/photos/documents/n1/image", params={"size": 64})
    assert thumbnail.status_code == 200
    client.post("/v1/collections/photos/documents/delete", json={"ids": ["n0", "n1", "n2"]})


@pytest.mark.parametrize("picture", BAD_PICTURES.values(), ids=BAD_PICTURES)
def test_a_bad_picture_is_refused_alone(client: httpx.Client, picture: bytes):
    check_refused(between(client, "photos", PHOTOS, {"image": text(picture)}))
    documents = [{"id": f"n{i}", "image": text(each)} for i, each in enumerate((PNG, picture, png("blue", 16)))]
    stored = client.put("/v1/collections/photos/documents", json={"documents": documents}).json()
    assert [(each["index"], each["id"]) for each in stored["rejected"]] == [(1, "n1")]
    assert stored["added"] == 2
    client.post("/v1/collections/photos/documents/delete", json={"ids": ["n0", "n2"]})


@pytest.mark.parametrize("poison", GOOD_TEXTS.values(), ids=GOOD_TEXTS)
def test_an_odd_text_is_a_text(client: httpx.Client, poison: str):
    assert "hits" in between(client, "notes", TEA, {"text": poison})
    answer = client.post("/v1/embeddings", json={"model": "multilingual", "input": ["water", poison, "tea"]})
    vectors = np.array([each["embedding"] for each in answer.json()["data"]])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    ranked = client.post("/v1/rerank", json={"query": "water", "documents": ["tea", poison]}).json()["results"]
    assert sorted(each["index"] for each in ranked) == [0, 1]


@pytest.mark.parametrize("poison", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_a_bad_text_is_refused_alone(client: httpx.Client, poison: str):
    check_refused(between(client, "notes", TEA, {"text": poison}))


def test_a_text_that_is_no_unicode_is_rejected_alone_among_documents(client: httpx.Client):
    documents = [{"id": "good", "text": "good"}, {"id": "bad", "text": BAD_TEXTS["lone surrogate"]}]
    body = json.dumps({"documents": documents})
    stored = client.put("/v1/collections/notes/documents", content=body, headers=JSON).json()
    assert ([each["id"] for each in stored["rejected"]], stored["added"]) == (["bad"], 1)
    assert client.delete("/v1/collections/notes/documents/good").status_code == 200


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_a_bad_vector_is_refused_alone(client: httpx.Client, vector: Any):
    answer = between(client, "axes", AXES, {"vector": vector})
    if vector == VECTORS["zero"]:  # everything is equally near to it
        assert [hit["score"] for hit in answer["hits"]] == [0.0] * 4
    else:
        check_refused(answer)


@pytest.mark.parametrize("members", MEMBERS.values(), ids=MEMBERS)
def test_a_bad_member_is_refused_alone(client: httpx.Client, members: dict[str, Any]):
    check_refused(between(client, "axes", AXES, {"vector": [1, 0, 0, 0], **members}))


BODIES: dict[str, tuple[bytes, dict[str, str]]] = {
    "NaN": (b'{"vector": [NaN, 0, 0, 0]}', JSON),
    "Infinity": (b'{"vector": [Infinity, 0, 0, 0]}', JSON),
    "not UTF-8": (b'{"text": "\xff\xfe"}', JSON),
    "compressed": (gzip.compress(b'{"text": "water"}'), {**JSON, "Content-Encoding": "gzip"}),
    "deep": (b"[" * 100_000 + b"]" * 100_000, JSON),
    "half": (b'{"text": "wat', JSON),
    "empty": (b"", JSON),
    "no boundary": (b"--x\r\n\r\n--x--", {"Content-Type": "multipart/form-data"}),
    "a long number": (b'{"text": "water", "k": ' + b"9" * 100_000 + b"}", JSON),
}


@pytest.mark.parametrize("path", ["collections/axes/search", "collections/axes/search/batch", "embeddings", "rerank"])
@pytest.mark.parametrize(("body", "headers"), BODIES.values(), ids=BODIES)
def test_a_broken_body_is_refused_and_nothing_else_is(
    client: httpx.Client, path: str, body: bytes, headers: dict[str, str]
):
    answer = client.post(f"/v1/{path}", content=body, headers=headers)
    assert answer.headers["content-type"] == "application/problem+json"
    check_refused(answer.json())
    assert ids(client.post("/v1/collections/axes/search", json=AXES[0]).json())[0] == "axis0"


def test_of_a_member_given_twice_the_last_counts(client: httpx.Client):
    body = b'{"vector": [1, 0, 0, 0], "vector": [0, 1, 0, 0], "k": 1}'
    assert ids(client.post("/v1/collections/axes/search", content=body, headers=JSON).json()) == ["axis1"]


def poisons() -> list[tuple[str, dict[str, Any]]]:
    pictures = [*GOOD_PICTURES.values(), *BAD_PICTURES.values()]
    texts = [*GOOD_TEXTS.values(), *BAD_TEXTS.values()]
    return [
        *(("photos", {"image": text(picture)}) for picture in pictures),
        *(("notes", {"text": each}) for each in texts),
        *(("axes", {"vector": vector}) for vector in VECTORS.values()),
        *(("axes", {"vector": [1, 0, 0, 0], **members}) for members in MEMBERS.values()),
    ]


def resident() -> float:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.parametrize("rounds", [1, pytest.param(60, marks=pytest.mark.soak)])
def test_many_clients_at_once_get_their_answers_among_poison_and_memory_stays(client: httpx.Client, rounds: int):
    good = [("notes", TEA[0], "tea"), ("axes", AXES[1], "axis3"), ("photos", PHOTOS[1], "blue")]

    def send(job: tuple[str, dict[str, Any], str | None]) -> None:
        collection, search, expected = job
        answer = client.post(
            f"/v1/collections/{collection}/search", content=json.dumps(search), headers=JSON, timeout=60
        )
        assert answer.status_code < 500, answer.text[:200]
        if expected is not None:
            assert ids(answer.json())[0] == expected

    jobs = [(collection, search, None) for collection, search in poisons()] + good * 12
    after = []
    with ThreadPoolExecutor(8) as pool:
        for number in range(rounds):
            random.Random(number).shuffle(jobs)
            list(pool.map(send, jobs))
            after.append(resident())
    # What grows with each round would have grown fourfold as much by the end as by a quarter.
    assert after[-1] - after[rounds // 4] < 40
