"""What clients name stays within the root, nothing is fetched or read for them, and errors give nothing away."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from retriever import cli
from retriever.encoder import Encoder
from retriever.root import ALIASES, Root
from service.keys import FILE_NAME
from service.settings import Settings
from tests.models import two_tower_model
from tests.service.conftest import axes, png, raw, serving
from tests.service.test_problems import check

AXES = "/v1/collections/axes"


# -- names and links


OUTSIDE = (
    "..",
    "%2e%2e",
    "%2E%2E%2F..",
    "..%2Foutside",
    "%2Fetc",
    "%2Fetc%2Fpasswd",
    "axes%00",
    "a%5C..",
    "~",
    ".axes.x",
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_name_leaves_the_root(client: httpx.Client, root: Root, name: str):
    Root(root.path.parent).create("outside", encoder=None).close()

    def held() -> list[Path]:
        return sorted([*root.path.parent.iterdir(), *root.path.iterdir()])

    before = held()
    for method, rest, body in (
        ("GET", "", b""),
        ("PUT", "", b'{"encoder": "none"}'),
        ("DELETE", "", b""),
        ("POST", "/search", b'{"text": "x"}'),
        ("PUT", "/documents", b'{"documents": [{"id": "x", "text": "x"}]}'),
        ("GET", "/documents/x/image", b""),
    ):
        status, text = raw(client, method, f"/v1/collections/{name}{rest}", body)
        assert 400 <= status < 500, (method, rest, text)
        assert str(root.path.parent) not in text
    assert held() == before


@pytest.mark.parametrize("name", [ALIASES, FILE_NAME])
def test_a_collection_cannot_take_the_place_of_a_file_of_the_root(client: httpx.Client, root: Root, name: str):
    check(client.put(f"/v1/collections/{name}", json={"encoder": "none"}), 400, "invalid_name")
    (root.path / name).mkdir()
    (root.path / name / "collection.sqlite").touch()
    assert name not in root.names()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """The folder of a collection `secret` outside the root."""
    with Root(tmp_path / "elsewhere").create("secret", encoder=None) as collection:
        collection.upsert(axes(2))
    return tmp_path / "elsewhere" / "secret"


def test_a_linked_folder_or_file_is_no_collection(client: httpx.Client, root: Root, elsewhere: Path):
    (root.path / "folder").symlink_to(elsewhere)
    (root.path / "file").mkdir()
    (root.path / "file" / "collection.sqlite").symlink_to(elsewhere / "collection.sqlite")
    (root.path / "nowhere").symlink_to(elsewhere / "absent")
    assert [each["name"] for each in client.get("/v1/collections").json()["collections"]] == ["axes"]
    for name in ("folder", "file", "nowhere"):
        check(client.get(f"/v1/collections/{name}"), 404, "unknown_collection")
        check(client.post(f"/v1/collections/{name}/search", json={"text": "apple"}), 404, "unknown_collection")
        check(client.delete(f"/v1/collections/{name}"), 404, "unknown_collection")
        check(client.put(f"/v1/collections/{name}", json={"encoder": "none"}), 409, "collection_exists")
    assert Root(elsewhere.parent).names() == ["secret"]
    assert not (elsewhere / "absent").exists()


def test_an_open_collection_whose_folder_becomes_a_link_is_no_longer_answered(
    client: httpx.Client, root: Root, elsewhere: Path
):
    assert client.get(AXES).json()["documents"] == 4
    (root.path / "axes").rename(root.path.parent / "moved")
    (root.path / "axes").symlink_to(elsewhere)
    check(client.get(AXES), 404, "unknown_collection")


def test_an_alias_leads_nowhere_outside(client: httpx.Client, root: Root, elsewhere: Path):
    names = ["../elsewhere/secret", str(elsewhere), "axes/../../elsewhere/secret", "folder", "absent"]
    (root.path / "folder").symlink_to(elsewhere)
    (root.path / ALIASES).write_text(json.dumps({f"alias{i}": name for i, name in enumerate(names)}))
    for i in range(len(names)):
        answer = client.post(f"/v1/collections/alias{i}/search", json={"text": "apple"})
        assert answer.status_code in (400, 404), answer.text


@pytest.mark.parametrize("text", ["{", "[]", '"axes"', "null", '{"a": "\\ud800"}'])
def test_damaged_aliases_are_an_error_and_not_none(client: httpx.Client, root: Root, text: str):
    (root.path / ALIASES).write_text(text)
    assert ALIASES in check(client.get(AXES), 500, "storage_failed")["detail"]


def test_linked_aliases_are_not_read(client: httpx.Client, root: Root):
    (root.path.parent / "theirs.json").write_text('{"secret": "axes"}')
    (root.path / ALIASES).symlink_to(root.path.parent / "theirs.json")
    answer = client.get("/v1/collections")
    assert "link" in check(answer, 500, "storage_failed")["detail"]
    assert "secret" not in answer.text


# -- nothing is fetched, no path of a client's is read


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a web server, and what it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png())

        do_HEAD = do_POST = do_GET  # noqa: N815 - names of the base class

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", paths
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_tower_model(tmp_path_factory.mktemp("towers") / "towers")


def test_what_looks_like_an_address_or_a_path_is_text(towers: Path, asked: tuple[str, list[str]], tmp_path: Path):
    address, paths = asked
    picture = tmp_path / "picture.png"
    picture.write_bytes(png())
    looks = [f"{address}/picture.png", str(picture), f"file://{picture}", f"data:image/png;base64,{PNG}"]
    root = tmp_path / "root"
    with Root(root).create("photos", encoder=Encoder.load(towers)) as photos:
        photos.upsert([{"id": "red", "image": png()}])
    with serving(Settings(root=root, encoders=[str(towers)])) as client:
        documents = [{"id": f"text{i}", "text": text} for i, text in enumerate(looks)]
        put = client.put("/v1/collections/photos/documents", json={"documents": documents})
        assert put.json()["added"] == len(looks)
        for i, text in enumerate(looks):
            stored = client.get(f"/v1/collections/photos/documents/text{i}").json()
            assert (stored["text"], stored.get("image")) == (text, None)
            found = client.post("/v1/collections/photos/search", json={"text": text, "mode": "lexical"}).json()
            assert f"text{i}" in {hit["id"] for hit in found["hits"]}
            assert client.post("/v1/collections/photos/search", json={"text": text, "mode": "dense"}).is_success
            made = client.post("/v1/embeddings", json={"model": str(towers), "input": text})
            assert made.json()["usage"]["prompt_tokens"] > 3
    assert paths == []


PNG = base64.b64encode(png()).decode()


def test_a_picture_is_base64_and_never_a_place(towers: Path, asked: tuple[str, list[str]], tmp_path: Path):
    address, paths = asked
    # A name that is valid base64 as well.
    (tmp_path / "pics").write_bytes(png())
    places = [
        f"{address}/picture.png",
        str(tmp_path / "pics"),
        f"file://{tmp_path}/pics",
        "pics",
        "../pics",
        f"data:{PNG}",
    ]
    root = tmp_path / "root"
    Root(root).create("photos", encoder=Encoder.load(towers)).close()
    with serving(Settings(root=root)) as client:
        for place in places:
            answer = client.post("/v1/collections/photos/search", json={"image": place})
            check(answer, 400, "invalid_request")
            put = client.put("/v1/collections/photos/documents", json={"documents": [{"id": "x", "image": place}]})
            assert [each["index"] for each in put.json()["rejected"]] == [0], place
        part = client.post("/v1/collections/photos/search", files={"image": (str(tmp_path / "pics"), b"no picture")})
        check(part, 400, "invalid_request")
        assert client.post("/v1/collections/photos/search", json={"image": PNG}).status_code == 200
    assert paths == []


def test_clients_name_only_encoders_that_are_offered_or_in_use(
    towers: Path, asked: tuple[str, list[str]], tmp_path: Path
):
    address, paths = asked
    with serving(Settings(root=tmp_path / "root", encoders=["multilingual"])) as client:
        for name in (str(towers), address, f"{address}/model", "english", "someone/model", "../towers", "none ", ""):
            problem = check(client.put("/v1/collections/fresh", json={"encoder": name}), 403, "forbidden")
            assert "multilingual" in problem["hint"]
        assert client.get("/v1/collections").json()["collections"] == []
        assert client.put("/v1/collections/plain", json={"encoder": "none"}).status_code == 201
        Root(tmp_path / "root").create("photos", encoder=Encoder.load(towers)).close()
        made = client.put("/v1/collections/more", json={"encoder": str(towers)})
        assert (made.status_code, made.json()["encoder"]) == (201, str(towers))
    assert paths == []


# -- errors give nothing away


def provoked(root: Root) -> Iterator[tuple[str, str, bytes]]:
    """Requests that fail, each in another way."""
    with root.create("damaged", encoder=None):
        pass
    for file in (root.path / "damaged").glob("collection.sqlite*"):
        file.write_bytes(b"not a database " * 1000)
    with root.create("cut", encoder=None) as cut:
        cut.upsert(axes())
    file = root.path / "cut" / "collection.sqlite"
    file.write_bytes(file.read_bytes()[:5000])
    (root.path / "linked").symlink_to(root.path.parent)
    yield "GET", "/nowhere", b""
    for name in ("nobody", "..%2Fx", "damaged", "cut", "linked"):
        yield "GET", f"/v1/collections/{name}", b""
        yield "POST", f"/v1/collections/{name}/search", b'{"text": "x"}'
        yield "POST", f"/v1/collections/{name}/search/batch", b'{"searches": [{"text": "x"}]}'
        yield "PUT", f"/v1/collections/{name}/documents", b'{"documents": [{"id": "x", "text": "x"}]}'
        yield "PUT", f"/v1/collections/{name}", b'{"encoder": "none"}'
    yield "PUT", AXES, b'{"encoder": "none"}'
    yield "PUT", "/v1/collections/fresh", b'{"encoder": "/no/such/folder"}'
    yield "PUT", "/v1/collections/fresh", b'{"encoder": "gone"}'
    yield "PUT", "/v1/collections/fresh", b'{"encoder": "none", "kind": "IVF4,Nonsense"}'
    yield "PUT", "/v1/collections/fresh", b'{"encoder": "none", "language": "not a language"}'
    yield "GET", f"{AXES}/documents/nobody", b""
    yield "GET", f"{AXES}/documents/axis1/image", b""
    yield "GET", f"{AXES}/documents?filter=%7B%22nothing%22:1%7D", b""
    for body in (
        b"{",
        b"{}",
        b'{"vector": [1, 2]}',
        b'{"text": "x", "filter": {"nothing": 1}}',
        b'{"text": "x", "filter": {"number": {"like": 1}}}',
        b'{"like": "nobody"}',
        b'{"text": "x", "rerank": true}',
        b'{"image": "AAAA"}',
        b'{"text": "x", "language": "not a language"}',
        b'{"text": "x", "min_generation": 1000, "timeout": 0.1}',
    ):
        yield "POST", f"{AXES}/search", body
    yield "POST", "/v1/embeddings", b'{"model": "nobody", "input": "x"}'
    yield "POST", "/v1/rerank", b'{"query": "x", "documents": ["x"]}'
    yield "GET", "/v1/collections", b""
    yield "GET", "/readyz", b""


def test_no_error_holds_a_path_a_traceback_or_a_query_of_ours(root: Root):
    requests = list(provoked(root))
    away = [str(root.path), str(root.path.parent), "Traceback", ".py", "Error(", "SELECT", "sqlite3", "site-packages"]
    codes = set()
    with serving(Settings(root=root.path, encoders=["gone"])) as client:
        for method, path, body in requests:
            status, text = raw(client, method, path, body)
            assert not [word for word in away if word in text], (method, path, body, text)
            codes.add((status, json.loads(text).get("code")))
    assert len(codes) >= 14
    assert 500 not in {status for status, code in codes if code == "internal"}


def test_the_command_line_says_where_it_looked(root: Root, capfd):
    assert cli.run(["index", "info", "nobody", "--root", str(root.path)]) == 1
    assert f"error: no collection 'nobody' ({root.path})\n" in capfd.readouterr().err
