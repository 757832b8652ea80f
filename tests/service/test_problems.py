import httpx
import pytest

from retriever.root import Root
from service.app import create_app
from service.settings import Settings
from tests.service.conftest import running

MEMBERS = {"type", "title", "status", "detail", "instance", "code"}


def check(answer: httpx.Response, status: int, code: str) -> dict:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() >= MEMBERS
    assert problem["type"].endswith(f":{code}")
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code), problem
    return problem


def test_an_unknown_route_is_a_problem(client: httpx.Client):
    problem = check(client.get("/v2/nothing%20here"), 404, "unknown_route")
    assert problem["instance"] == "/v2/nothing%20here"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/collections", {"GET", "HEAD"}),
        ("POST", "/v1/collections/axes", {"GET", "HEAD", "PUT", "DELETE"}),
        ("PATCH", "/v1/collections/axes/documents", {"GET", "HEAD", "PUT"}),
        ("PUT", "/v1/collections/axes/documents/axis1", {"GET", "HEAD", "DELETE"}),
        ("GET", "/v1/collections/axes/search", {"POST"}),
        ("POST", "/openapi.json", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_a_problem_that_lists_the_right_ones(
    client: httpx.Client, method: str, path: str, allowed: set[str]
):
    answer = client.request(method, path)
    check(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


NOT_JSON = [b"{", b"\xff\xfe{}", b"{'text': 1}", b'{"vector": [NaN]}', b'{"text": "\\ud800"}', b"[" * 100_000]


@pytest.mark.parametrize("body", NOT_JSON)
def test_a_body_that_is_not_json_is_a_problem(client: httpx.Client, body: bytes):
    answer = client.post("/v1/collections/axes/search", content=body, headers={"Content-Type": "application/json"})
    assert "not valid JSON" in check(answer, 400, "invalid_request")["detail"]


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"5", b"null"])
def test_a_body_that_is_no_object_is_a_problem(client: httpx.Client, body: bytes):
    answer = client.post("/v1/collections/axes/search", content=body, headers={"Content-Type": "application/json"})
    check(answer, 400, "invalid_request")


def test_a_body_of_another_type_is_a_problem_that_names_the_right_one(client: httpx.Client):
    for path, method in (("/v1/collections/axes/search", "POST"), ("/v1/collections/axes/documents", "PUT")):
        answer = client.request(method, path, content=b"{}", headers={"Content-Type": "text/plain"})
        assert "application/json" in check(answer, 415, "unsupported_media_type")["hint"]


def test_a_broken_multipart_body_is_a_problem(client: httpx.Client):
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        answer = client.post("/v1/collections/axes/search", content=b"--y\r\n\r\n", headers={"Content-Type": kind})
        check(answer, 400, "invalid_request")


def test_a_path_that_is_not_utf8_is_a_problem(client: httpx.Client):
    check(client.get("/v1/collections/axes/documents/%FF"), 400, "invalid_request")


def test_unknown_collections_and_documents_are_problems(client: httpx.Client):
    check(client.get("/v1/collections/nobody"), 404, "unknown_collection")
    check(client.post("/v1/collections/nobody/search", json={"text": "x"}), 404, "unknown_collection")
    check(client.get("/v1/collections/axes/documents/nobody"), 404, "unknown_document")
    check(client.delete("/v1/collections/axes/documents/nobody"), 404, "unknown_document")


def test_an_unforeseen_error_is_a_problem_that_gives_nothing_away(root: Root):
    app = create_app(Settings(root=root.path))

    @app.get("/boom")
    def boom() -> None:
        raise RuntimeError("secret")

    with running(app) as client:
        answer = client.get("/boom")
        check(answer, 500, "internal")
        assert "secret" not in answer.text
        # The server closes a connection on which an error was unforeseen.
        metrics = httpx.get(f"{client.base_url}/metrics").text
        assert 'route="/boom",status="500"} 1.0' in metrics
