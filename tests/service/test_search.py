import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from retriever.documents import Document
from retriever.requests import SearchRequest
from retriever.root import Root
from service.settings import Settings
from tests.service.conftest import png, serving


def search(client: httpx.Client, name: str = "axes", **members: Any) -> httpx.Response:
    return client.post(f"/v1/collections/{name}/search", json=members)


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_rest_answers_what_the_collection_answers(notes: httpx.Client, notes_root: Path, mode: str):
    request = {"text": "how is tea brewed", "mode": mode, "k": 4, "explain": True, "fields": ["title", "captions"]}
    with Root(notes_root).open("notes") as collection:
        expected = json.loads(json.dumps(collection.search(SearchRequest(**request)).to_dict()))
    answered = search(notes, "notes", **request).json()
    assert answered.pop("timings_ms").keys() == expected.pop("timings_ms").keys()
    assert answered == expected


def test_a_german_question_finds_an_english_document(notes: httpx.Client):
    assert ids(search(notes, "notes", text="Wie bereitet man grünen Tee zu?", mode="dense"))[0] == "tea"


def test_a_vector_finds_the_nearest_documents(client: httpx.Client):
    assert ids(search(client, vector=[0, 0.9, 0.1, 0], k=2)) == ["axis1", "axis2"]


def test_more_like_a_document_leaves_it_out(client: httpx.Client):
    assert "axis1" not in ids(search(client, like="axis1"))


def test_a_filter_applies(client: httpx.Client):
    assert ids(search(client, text="shared", filter={"number": {"gte": 2}})) == ["axis2", "axis3"]


def test_a_picture_as_part_or_as_base64_is_the_same_search(client: httpx.Client):
    as_json = search(client, image=base64.b64encode(png()).decode())
    as_part = client.post(
        "/v1/collections/axes/search", files={"image": ("q.png", png(), "image/png"), "request": (None, "{}")}
    )
    for answer in (as_json, as_part):  # this collection's encoder has no tower for pictures, and says so
        assert (answer.status_code, answer.json()["code"]) == (400, "unsupported_modality"), answer.text
    assert as_json.json() == as_part.json()


def test_the_request_part_may_be_a_file_with_a_type(client: httpx.Client):
    part = ("request.json", b'{"text": "cloud"}', "application/json")
    assert ids(client.post("/v1/collections/axes/search", files={"request": part})) == ["axis2"]


def test_a_multipart_body_with_an_unknown_part_or_two_pictures_is_refused(client: httpx.Client):
    url = "/v1/collections/axes/search"
    unknown = client.post(url, files={"picture": png()})
    assert "'picture'" in unknown.json()["detail"]
    request = json.dumps({"image": base64.b64encode(png()).decode()})
    assert "two pictures" in client.post(url, files={"image": png(), "request": (None, request)}).json()["detail"]


def test_a_batch_answers_in_order_and_a_bad_search_fails_alone(client: httpx.Client):
    searches = [{"text": "drum"}, {"k": 0, "text": "x"}, {"like": "nobody"}, {"vector": [1, 0, 0, 0], "k": 1}, "text"]
    answer = client.post("/v1/collections/axes/search/batch", json={"searches": searches})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result.get("code") for result in results] == [
        None,
        "invalid_request",
        "unknown_document",
        None,
        "invalid_request",
    ]
    assert [hit["id"] for hit in results[0]["hits"]] == ["axis3"]
    assert [hit["id"] for hit in results[3]["hits"]] == ["axis0"]
    assert results[1]["errors"][0]["pointer"] == "/k"
    assert results[2]["instance"] == "/v1/collections/axes/search/batch#/searches/2"


def test_an_empty_batch_has_no_results(client: httpx.Client):
    assert client.post("/v1/collections/axes/search/batch", json={"searches": []}).json() == {"results": []}


def test_a_generation_that_does_not_come_within_the_timeout_is_a_conflict(client: httpx.Client):
    answer = search(client, text="shared", min_generation=99, timeout=0.2)
    assert (answer.status_code, answer.json()["code"]) == (409, "generation_not_reached")


def test_a_search_waits_for_the_generation_it_asks_for(client: httpx.Client, root: Root):
    newest = client.get("/v1/collections/axes").json()["generation"]

    def write() -> None:
        with root.open("axes") as other:
            other.upsert([Document(id="new", text="bridge afresh", language="en", vector=np.ones(4))])

    writer = threading.Timer(0.3, write)
    writer.start()
    answer = search(client, text="afresh", min_generation=newest + 1, timeout=20)
    writer.join()
    assert ids(answer) == ["new"]
    assert answer.json()["generation"] == newest + 1


def test_searches_that_wait_leave_room_for_the_write_they_wait_for(root: Root):
    with serving(Settings(root=root.path, threads=1)) as client, ThreadPoolExecutor(3) as pool:
        newest = client.get("/v1/collections/axes").json()["generation"]
        waiting = [pool.submit(search, client, text="shared", min_generation=newest + 1, timeout=20) for _ in range(3)]
        deleted = client.delete("/v1/collections/axes/documents/axis3")
        assert deleted.json()["generation"] == newest + 1
        assert all(ids(answer.result()) == ["axis0", "axis1", "axis2"] for answer in waiting)


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"text": 5}, "/text"),
        ({"text": "x", "k": "many"}, "/k"),
        ({"text": "x", "colour": "red"}, "/colour"),
        ({"image": "no base64!"}, "/image"),
        ({"text": "x", "mode": "psychic"}, "/mode"),
    ],
)
def test_a_malformed_member_is_named_by_its_pointer(client: httpx.Client, members: dict[str, Any], place: str):
    answer = client.post(
        "/v1/collections/axes/search",
        content=json.dumps(members).encode(),
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [place]


def test_a_search_without_anything_to_search_by_is_refused(client: httpx.Client):
    assert (search(client).status_code, search(client).json()["code"]) == (400, "invalid_request")
