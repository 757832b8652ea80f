"""What is too large, too many, too deep or too long is a 4xx that says so, and the service goes on."""

import base64
import io
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from retriever.encoder import Encoder
from retriever.root import Root
from service.settings import Settings
from tests.models import tiny_cross_encoder, two_tower_model
from tests.service.conftest import axes, png, serving
from tests.service.test_problems import check

AXES = "/v1/collections/axes"
PHOTOS = "/v1/collections/photos"
LIMITS = {
    "max_batch": 3,
    "max_documents": 4,
    "max_text_characters": 50,
    "max_body_bytes": 2_000_000,
    "max_picture_bytes": 500_000,
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with small limits over `axes` and over `photos`, of a model with a tower for pictures."""
    folder = tmp_path_factory.mktemp("limits")
    root = Root(folder / "data")
    with root.create("axes", encoder=None) as collection:
        collection.upsert(axes())
    root.create("photos", encoder=Encoder.load(two_tower_model(folder / "towers"))).close()
    reranker = str(tiny_cross_encoder(folder / "reranker"))
    with serving(Settings(root=root.path, reranker=reranker, **LIMITS)) as client:
        yield client
        # Whatever was sent, it goes on answering.
        assert [hit["id"] for hit in client.post(f"{AXES}/search", json={"text": "cloud"}).json()["hits"]] == ["axis2"]


@pytest.fixture(scope="module")
def model(client: httpx.Client) -> str:
    name: str = client.get(PHOTOS).json()["encoder"]
    return name


def search(client: httpx.Client, **members: Any) -> httpx.Response:
    return client.post(f"{AXES}/search", json=members)


# -- how many


def test_a_batch_holds_at_most_max_batch_searches(client: httpx.Client):
    one = {"text": "cloud"}
    assert client.post(f"{AXES}/search/batch", json={"searches": [one] * 3}).status_code == 200
    problem = check(client.post(f"{AXES}/search/batch", json={"searches": [one] * 4}), 400, "invalid_request")
    assert problem["errors"] == [{"pointer": "/searches", "detail": "has 4 members, max_batch is 3"}]


def test_embeddings_and_rerank_take_at_most_max_batch_texts(client: httpx.Client, model: str):
    for count, status in ((3, 200), (4, 400)):
        texts = ["a text"] * count
        assert client.post("/v1/embeddings", json={"model": model, "input": texts}).status_code == status
        assert client.post("/v1/rerank", json={"query": "x", "documents": texts}).status_code == status


def test_a_put_or_a_deletion_takes_at_most_max_documents(client: httpx.Client):
    documents = [{"id": f"{i}"} for i in range(5)]
    assert len(client.put(f"{AXES}/documents", json={"documents": documents[:4]}).json()["rejected"]) == 4
    check(client.put(f"{AXES}/documents", json={"documents": documents}), 400, "invalid_request")
    ids = [document["id"] for document in documents]
    assert client.post(f"{AXES}/documents/delete", json={"ids": ids[:4]}).status_code == 200
    check(client.post(f"{AXES}/documents/delete", json={"ids": ids}), 400, "invalid_request")


def test_more_is_found_of_at_most_max_batch_documents(client: httpx.Client):
    assert search(client, like=["axis0", "axis1", "axis2"]).status_code == 200
    check(search(client, like=["axis0"] * 4), 400, "invalid_request")


@pytest.mark.parametrize("limit", [0, 1001, -1, 10**30, "many", "1e3", "9" * 5000])
def test_a_scroll_gives_at_most_a_thousand_documents_at_a_time(client: httpx.Client, limit: object):
    check(client.get(f"{AXES}/documents", params={"limit": limit}), 400, "invalid_request")


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 30, "1.5", "٣", "0x1"])
def test_a_cursor_is_one_that_a_page_before_gave(client: httpx.Client, cursor: str):
    check(client.get(f"{AXES}/documents", params={"cursor": cursor}), 400, "invalid_request")


@pytest.mark.parametrize(
    "members",
    [
        {"k": 0},
        {"k": -1},
        {"k": 201},
        {"k": 10**9},
        {"k": 10**30},
        {"k": 1e300},
        {"k": 10, "offset": 191},
        {"offset": -1},
        {"offset": 10**12},
        {"k": 1.5},
        {"k": "10"},
        {"k": None},
    ],
)
def test_hits_are_shown_from_the_window_only(client: httpx.Client, members: dict[str, Any]):
    check(search(client, text="cloud", **members), 400, "invalid_request")


def test_the_last_hits_of_the_window_can_be_asked_for(client: httpx.Client):
    for mode, window in (("lexical", 200), ("dense", 1000)):
        query: dict[str, Any] = {"text": "cloud"} if mode == "lexical" else {"vector": [1, 0, 0, 0]}
        assert search(client, mode=mode, k=window, **query).status_code == 200
        assert search(client, mode=mode, k=1, offset=window - 1, **query).status_code == 200
        check(search(client, mode=mode, k=1, offset=window, **query), 400, "invalid_request")


# -- how long and how deep


def test_no_text_is_longer_than_max_text_characters(client: httpx.Client, model: str):
    # Code points, whatever they take in bytes.
    for letter in ("a", "雨", "😀"):
        fits, long = letter * 50, letter * 51
        for members in (
            {"text": fits},
            {"like": "axis0"},
            {"vector": [1, 0, 0, 0], "filter": {"number": {"ne": fits}}},
        ):
            assert search(client, **members).status_code == 200
        for members in (
            {"text": long},
            {"like": long},
            {"like": ["axis0", long]},
            {"text": "x", "filter": {"number": long}},
            {"text": "x", "filter": {long: 1}},
            {"text": "x", "filter": {"or": [{"number": {"in": [long]}}]}},
        ):
            problem = check(search(client, **members), 400, "invalid_request")
            assert problem["detail"].endswith("has 51 characters, max_text_characters is 50")
            assert long not in problem["detail"]
        check(client.post("/v1/embeddings", json={"model": model, "input": [fits, long]}), 400, "invalid_request")
        check(client.post("/v1/rerank", json={"query": long, "documents": ["x"]}), 400, "invalid_request")
        check(client.post("/v1/rerank", json={"query": "x", "documents": [fits, long]}), 400, "invalid_request")
        deletion = client.post(f"{AXES}/documents/delete", json={"filter": {"number": long}})
        check(deletion, 400, "invalid_request")


def test_a_text_that_is_too_long_fails_alone_in_its_batch(client: httpx.Client):
    searches = [{"text": "cloud"}, {"text": "x" * 51}, {"text": "drum"}]
    results = client.post(f"{AXES}/search/batch", json={"searches": searches}).json()["results"]
    assert [result.get("code") for result in results] == [None, "invalid_request", None]
    assert [result["hits"][0]["id"] for result in (results[0], results[2])] == ["axis2", "axis3"]


def nested(depth: int, innermost: Any = 1) -> dict[str, Any]:
    """A filter of so many levels."""
    made: dict[str, Any] = {"number": innermost}
    for _ in range(depth - 1):
        made = {"not": made}
    return made


def test_a_filter_nests_at_most_sixteen_deep(client: httpx.Client):
    assert search(client, text="cloud", filter=nested(16)).status_code == 200
    for depth in (17, 300):
        assert "16 deep" in check(search(client, text="cloud", filter=nested(depth)), 400, "invalid_filter")["detail"]


@pytest.mark.parametrize("depth", [900, 1000, 100_000])
@pytest.mark.parametrize("inside", ['{"number": %s}', '{"and": %s}', '{"number": {"in": %s}}', '{"not": %s}', "%s"])
def test_json_of_any_depth_in_a_filter_is_refused(client: httpx.Client, depth: int, inside: str):
    deep = inside % ("[" * depth + "]" * depth)
    headers = {"Content-Type": "application/json"}
    for path, body in (
        ("/search", f'{{"text": "x", "filter": {deep}}}'),
        ("/documents/delete", f'{{"filter": {deep}}}'),
    ):
        answer = client.post(f"{AXES}{path}", content=body, headers=headers)
        assert answer.status_code == 400, answer.text
    answer = client.post(f"{AXES}/search/batch", content=f'{{"searches": [{{"filter": {deep}}}]}}', headers=headers)
    assert answer.status_code == 400 or answer.json()["results"][0]["status"] == 400


@pytest.mark.parametrize("depth", [33, 900, 100_000])
def test_documents_nest_at_most_32_deep(client: httpx.Client, depth: int):
    for opening, closing in (('{"a":', "}"), ("[", "]")):
        deep = f"{opening * depth}1{closing * depth}"
        body = f'{{"documents": [{{"id": "x", "text": "x", "metadata": {{"m": {deep}}}}}]}}'
        answer = client.put(f"{AXES}/documents", content=body, headers={"Content-Type": "application/json"})
        if answer.status_code == 200:
            assert len(answer.json()["rejected"]) == 1
        else:
            check(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    "condition",
    [
        {"number": {"in": list(range(10_001))}},
        {"or": [{"number": {"in": list(range(i, i + 9_000))}} for i in range(4)]},
        {"or": [{"number": i} for i in range(33_000)]},
        {"and": [{}] * 33_000},
        {"language": {"in": ["en"] * 10_001}},
        {"or": [{"language": {"in": ["en"] * 9_000}}] * 4},
    ],
    ids=["in", "ins", "ors", "empty", "languages", "languages in ors"],
)
def test_a_filter_holds_only_so_many_values(client: httpx.Client, condition: dict[str, Any]):
    check(search(client, text="cloud", filter=condition), 400, "invalid_filter")


# -- how many bytes


@pytest.mark.parametrize(
    "length", ["abc", "-1", "+5", "1.5", "0x10", "1e3", " ", "9" * 30, "9" * 6000, "5, 6", "5\r\nContent-Length: 6"]
)
def test_a_length_that_is_none_is_refused(client: httpx.Client, length: str):
    request = (
        f"POST {AXES}/search HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{{}}"
    )
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as connection:
        connection.sendall(request.encode())
        status = connection.makefile("rb").readline().split()[1]
    assert status in (b"400", b"413")


def test_a_body_that_is_announced_too_long_is_refused_before_it_is_sent(client: httpx.Client):
    request = f"PUT {AXES}/documents HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000001\r\n\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as connection:
        connection.sendall(request.encode())
        assert connection.makefile("rb").readline().split()[1] == b"413"


def test_a_body_is_counted_where_nothing_is_announced(client: httpx.Client):
    def chunks(count: int) -> Iterator[bytes]:
        yield b'{"text": "cloud"'
        yield from (b" " * 100_000 for _ in range(count))
        yield b"}"

    headers = {"Content-Type": "application/json"}
    assert client.post(f"{AXES}/search", content=chunks(19), headers=headers).status_code == 200
    check(client.post(f"{AXES}/search", content=chunks(20), headers=headers), 413, "body_too_large")


def test_a_multipart_body_is_limited_as_any_other(client: httpx.Client):
    check(client.post(f"{PHOTOS}/search", files={"image": b"x" * 2_000_000}), 413, "body_too_large")
    check(client.post(f"{PHOTOS}/search", files={"image": b"x" * 500_001}), 413, "body_too_large")
    parts = [("image", png(size=8)), ("image", png(size=8)), ("image", png(size=8))]
    check(client.post(f"{PHOTOS}/search", files=parts), 400, "invalid_request")


# -- pictures


def in_search(client: httpx.Client, picture: bytes) -> httpx.Response:
    return client.post(f"{PHOTOS}/search", json={"image": base64.b64encode(picture).decode()})


def as_part(client: httpx.Client, picture: bytes) -> httpx.Response:
    return client.post(f"{PHOTOS}/search", files={"image": picture})


def in_batch(client: httpx.Client, picture: bytes) -> httpx.Response:
    """The second answer of a batch, between two good ones."""
    images = [{"image": base64.b64encode(each).decode()} for each in (png(size=8), picture, png("blue", size=8))]
    results = client.post(f"{PHOTOS}/search/batch", json={"searches": images}).json()["results"]
    assert [result.get("code") for result in (results[0], results[2])] == [None, None]
    return httpx.Response(results[1].get("status", 200), json=results[1])


def in_document(client: httpx.Client, picture: bytes) -> httpx.Response:
    """The rejection of the second of two documents, as a problem."""
    documents = [{"id": f"{i}", "image": base64.b64encode(each).decode()} for i, each in enumerate((png(), picture))]
    answer = client.put(f"{PHOTOS}/documents", json={"documents": documents})
    if answer.status_code != 200:
        return answer
    rejected = answer.json()["rejected"]
    assert [each["index"] for each in rejected] in ([], [1])
    return httpx.Response(400, json={"detail": rejected[0]["reason"]}) if rejected else answer


WAYS = [in_search, as_part, in_batch, in_document]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(width: int, height: int) -> bytes:
    """A PNG of so many pixels, all black, in a thousandth of their bytes."""
    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(1 + width // 8)) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(client: httpx.Client, way: Any):
    picture = bomb(20_000, 16_000)
    assert len(picture) < 100_000
    answer = way(client, picture)
    assert answer.status_code == 400
    assert "pixels" in answer.json()["detail"]


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_above_max_picture_bytes_is_refused(client: httpx.Client, way: Any):
    answer = way(client, png(size=8) + bytes(500_000))
    assert answer.status_code == (400 if way is in_document else 413)
    assert "500000" in answer.json()["detail"]


@pytest.mark.parametrize("way", WAYS)
def test_only_the_first_frame_of_an_animation_counts(client: httpx.Client, way: Any):
    frames = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(
        frames, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8), (i, 0, 255)) for i in range(200)]
    )
    assert way(client, frames.getvalue()).status_code == 200


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "content", [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", png()[:200], b"%PDF-1.7", b"\0" * 1000]
)
def test_what_is_no_picture_is_refused(client: httpx.Client, way: Any, content: bytes):
    if content or way is not in_document:  # there, an empty picture is none
        assert way(client, content).status_code == 400
