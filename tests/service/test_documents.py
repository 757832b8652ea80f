import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from retriever.encoder import Encoder
from retriever.root import Root
from service.settings import Settings
from tests.service.conftest import png, serving

DOCUMENTS = "/v1/collections/box/documents"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with an empty collection `box` that encodes."""
    path: Path = tmp_path_factory.mktemp("box")
    Root(path).create("box", encoder=Encoder.load("multilingual")).close()
    with serving(Settings(root=path, max_body_bytes=200_000, max_picture_bytes=50_000)) as client:
        yield client


@pytest.fixture(autouse=True)
def _emptied(box: httpx.Client) -> None:
    ids = [document["id"] for document in box.get(DOCUMENTS).json()["documents"]]
    box.post(f"{DOCUMENTS}/delete", json={"ids": ids})


def put(box: httpx.Client, *documents: Any) -> dict[str, Any]:
    answer = box.put(
        DOCUMENTS, content=json.dumps({"documents": documents}), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def counts(written: dict[str, Any]) -> tuple[int, int, int]:
    return written["added"], written["updated"], written["unchanged"]


def test_a_document_comes_back_as_it_was_put(box: httpx.Client):
    document = {
        "id": "a1",
        "title": "T",
        "text": "one two",
        "language": "cmn",
        "year": 2024,
        "metadata": {"a": {"b": ["x"]}},
    }
    assert counts(put(box, document)) == (1, 0, 0)
    assert box.get(f"{DOCUMENTS}/a1").json() == {
        "id": "a1",
        "title": "T",
        "text": "one two",
        "language": "zh",
        "metadata": {"year": 2024, "a.b": ["x"]},
    }


def test_a_retry_changes_nothing_and_a_put_replaces_the_whole_document(box: httpx.Client):
    first = put(box, {"id": "a", "title": "T", "text": "one", "language": "en"})
    again = put(box, {"id": "a", "title": "T", "text": "one", "language": "en"})
    assert (counts(again), again["generation"]) == ((0, 0, 1), first["generation"])
    assert counts(put(box, {"id": "a", "text": "two", "language": "en"})) == (0, 1, 0)
    assert box.get(f"{DOCUMENTS}/a").json() == {"id": "a", "text": "two", "language": "en"}


def test_rejected_documents_are_named_by_their_place_in_the_request(box: httpx.Client):
    written = put(
        box,
        {"id": "p0", "image": "no base64!", "text": "x"},
        {"id": "p1", "text": "good", "language": "en"},
        "no object",
        {"text": "no id"},
        {"id": "p4"},
        {"id": "p5", "text": "half \ud800"},
        {"id": "p6", "text": "good too", "language": "en"},
        {"id": "p7", "image": base64.b64encode(b"no picture").decode()},
    )
    assert counts(written) == (2, 0, 0)
    rejected = [(each["index"], each["id"]) for each in written["rejected"]]
    assert rejected == [(0, "p0"), (2, None), (3, None), (4, "p4"), (5, "p5"), (7, "p7")]
    assert "base64" in written["rejected"][0]["reason"]
    assert all(each["reason"] for each in written["rejected"])


# A client must not send `.` and `..` as parts of a path, percent-encoded or not (RFC 3986, 6.2.2.3).
IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(IDS.filter(lambda text: text.strip("./")), min_size=1, max_size=30, unique=True))
def test_a_document_is_reached_by_its_percent_encoded_id(box: httpx.Client, identifiers: list[str]):
    put(box, *({"id": identifier, "captions": {"en": ["same"]}} for identifier in identifiers))
    urls = [f"{DOCUMENTS}/{quote(identifier, safe='')}" for identifier in identifiers]
    assert [box.get(url).json()["id"] for url in urls] == identifiers
    assert box.delete(urls[0]).json()["deleted"] == 1
    assert box.get(urls[0]).json()["code"] == "unknown_document"


@pytest.mark.parametrize("identifier", ["a/image", "image", "delete", "lib/os.py#walk", "50%", "%2F", "a?b", "a+b c"])
def test_ids_that_look_like_routes_or_escapes_are_ids(box: httpx.Client, identifier: str):
    put(box, {"id": identifier, "text": "x", "language": "en"})
    assert box.get(f"{DOCUMENTS}/{quote(identifier, safe='')}").json()["id"] == identifier


def test_a_scroll_gives_every_document_once(box: httpx.Client):
    put(box, *({"id": f"d{i}", "text": f"text {i}", "language": "en", "even": i % 2 == 0} for i in range(7)))
    seen, cursor = [], None
    while True:
        page = box.get(DOCUMENTS, params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [document["id"] for document in page["documents"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert sorted(seen) == [f"d{i}" for i in range(7)]
    some = box.get(DOCUMENTS, params={"filter": json.dumps({"even": True})}).json()
    assert sorted(document["id"] for document in some["documents"]) == ["d0", "d2", "d4", "d6"]


def test_a_filter_that_is_no_json_object_is_refused(box: httpx.Client):
    for text in ("{", "[]", "NaN"):
        assert box.get(DOCUMENTS, params={"filter": text}).json()["code"] == "invalid_request"
    assert box.get(DOCUMENTS, params={"limit": 0}).json()["errors"][0]["parameter"] == "limit"


def test_documents_are_deleted_by_ids_or_by_filter(box: httpx.Client):
    put(box, *({"id": f"d{i}", "text": f"text {i}", "language": "en", "n": i} for i in range(5)))
    assert box.post(f"{DOCUMENTS}/delete", json={"ids": ["d0", "gone"]}).json()["deleted"] == 1
    assert box.post(f"{DOCUMENTS}/delete", json={"filter": {"n": {"gte": 3}}}).json()["deleted"] == 2
    left = [document["id"] for document in box.get(DOCUMENTS).json()["documents"]]
    assert sorted(left) == ["d1", "d2"]
    for body in ({}, {"ids": ["d1"], "filter": {"n": 1}}):
        assert box.post(f"{DOCUMENTS}/delete", json=body).status_code == 400


def test_a_picture_comes_back_whole_and_as_a_thumbnail(box: httpx.Client):
    put(box, {"id": "p", "captions": {"en": ["red"]}, "image": base64.b64encode(png()).decode()})
    whole = box.get(f"{DOCUMENTS}/p/image")
    assert (whole.headers["content-type"], whole.content) == ("image/png", png())
    thumbnail = box.get(f"{DOCUMENTS}/p/image", params={"size": 64})
    assert thumbnail.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(thumbnail.content)).size == (64, 32)


def test_a_document_without_a_picture_says_so(box: httpx.Client):
    put(box, {"id": "t", "text": "x", "language": "en"})
    assert box.get(f"{DOCUMENTS}/t/image").status_code == 404
    assert box.get(f"{DOCUMENTS}/nobody/image").json()["code"] == "unknown_document"


def test_bodies_and_pictures_above_the_limits_are_refused(box: httpx.Client):
    body = box.put(DOCUMENTS, json={"documents": [{"id": "a", "text": "x" * 200_001}]})
    assert (body.status_code, body.json()["code"]) == (413, "body_too_large")

    def chunks() -> Iterator[bytes]:  # no length is announced
        yield from (b" " * 50_000 for _ in range(5))

    assert box.put(DOCUMENTS, content=chunks(), headers={"Content-Type": "application/json"}).status_code == 413
    picture = base64.b64encode(b"x" * 50_001).decode()
    put = box.put(DOCUMENTS, json={"documents": [{"id": "a", "image": picture}, {"id": "b", "text": "b"}]}).json()
    assert ([each["id"] for each in put["rejected"]], put["added"]) == (["a"], 1)
    assert "50001 bytes" in put["rejected"][0]["reason"]
    part = box.post("/v1/collections/box/search", files={"image": b"x" * 50_001})
    assert part.json()["code"] == "body_too_large"
