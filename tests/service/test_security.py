"""Who may ask for what, and how often: scopes, rates, other sites' pages, and the headers of answers."""

from importlib import import_module
from pkgutil import iter_modules

import httpx
import pytest
from fastapi.routing import APIRoute

from retriever.root import Root
from service import routes
from service.keys import Scope, new_key
from service.problems import RateLimited
from service.security import RateLimit, scope_of
from service.settings import Settings
from tests.service.conftest import raw, serving
from tests.service.test_problems import check

AXES = "/v1/collections/axes"
OPEN = {"/", "/livez", "/readyz", "/status", "/page/{file}", "/openapi.json", "/docs", "/docs/{file}"}
READ = {
    ("GET", "/metrics"),
    ("GET", "/v1/collections"),
    ("GET", "/v1/collections/{name}"),
    ("GET", "/v1/collections/{name}/documents"),
    ("GET", "/v1/collections/{name}/documents/{id:path}"),
    ("GET", "/v1/collections/{name}/documents/{id:path}/image"),
    ("POST", "/v1/collections/{name}/search"),
    ("POST", "/v1/collections/{name}/search/batch"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/rerank"),
}
WRITE = {
    ("PUT", "/v1/collections/{name}"),
    ("DELETE", "/v1/collections/{name}"),
    ("PUT", "/v1/collections/{name}/documents"),
    ("POST", "/v1/collections/{name}/documents/delete"),
    ("DELETE", "/v1/collections/{name}/documents/{id:path}"),
}


def key(root: Root, *scopes: Scope) -> dict[str, str]:
    """The header of a new key."""
    return {"Authorization": f"Bearer {new_key(root.path, '', scopes)[1]}"}


# -- scopes


def test_every_route_has_its_scope():
    modules = [import_module(f"{routes.__name__}.{module.name}") for module in iter_modules(routes.__path__)]
    every = [route for module in modules for route in module.router.routes if isinstance(route, APIRoute)]
    found = {(method, route.path): scope_of(method, route.path) for route in every for method in route.methods}
    expected = {("GET", path): None for path in OPEN} | dict.fromkeys(READ, "read") | dict.fromkeys(WRITE, "write")
    assert found == expected


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/"),
        ("POST", "/livez"),
        ("POST", "/v1/collections/axes/searches"),
        ("OPTIONS", AXES),
        ("X", "/nowhere"),
    ],
)
def test_what_no_table_knows_takes_the_scope_write(method: str, path: str):
    assert scope_of(method, path) == "write"


def test_a_key_that_reads_cannot_write_and_one_that_writes_cannot_read(root: Root):
    reads, writes = key(root, "read"), key(root, "write")
    with serving(Settings(root=root.path)) as client:
        assert client.post(f"{AXES}/search", json={"text": "cloud"}, headers=reads).status_code == 200
        assert client.head(AXES, headers=reads).status_code == 200
        for method, path in (("PUT", f"{AXES}/documents"), ("DELETE", AXES), ("POST", f"{AXES}/documents/delete")):
            problem = check(client.request(method, path, json={}, headers=reads), 403, "forbidden")
            assert "write" in problem["detail"]
        assert client.get(AXES, headers=reads).json()["documents"] == 4
        assert client.put(f"{AXES}/documents", json={"documents": []}, headers=writes).status_code == 200
        for path in (AXES, "/metrics"):
            assert "read" in check(client.get(path, headers=writes), 403, "forbidden")["detail"]


def test_a_path_that_only_begins_like_an_open_one_takes_a_key(root: Root):
    key(root, "read")
    with serving(Settings(root=root.path)) as client:
        for path in (
            "/page/../v1/collections",
            "/page/x/../../metrics",
            "/livez/",
            "//",
            "/docs/../metrics",
            "/%6Civez",
        ):
            assert raw(client, "GET", path)[0] == 401, path


# -- rates


def test_a_bucket_holds_one_seconds_requests_and_is_refilled_evenly():
    now = 100.0
    limit = RateLimit(4, lambda: now)

    def taken(key: str = "a") -> int:
        for count in range(10):
            try:
                limit.take(key)
            except RateLimited as error:
                assert error.retry_after == 1
                return count
        return 10

    assert [taken(), taken()] == [4, 0]
    assert taken("b") == 4
    now += 0.25
    assert taken() == 1
    now += 0.5
    assert taken() == 2
    now += 1000
    assert taken() == 4


def test_a_key_above_its_rate_is_told_when_to_come_back_and_others_are_not_held_up(root: Root):
    first, other = key(root, "read"), key(root, "read")
    with serving(Settings(root=root.path, rate_limit=2)) as client:
        answers = (client.get(AXES, headers=first) for _ in range(100))
        refused = next(answer for answer in answers if answer.status_code != 200)
        check(refused, 429, "rate_limited")
        assert refused.headers["retry-after"] == "1"
        assert client.get(AXES, headers=other).status_code == 200
        assert {client.get(path).status_code for path in ("/livez", "/", "/page/main.js") for _ in range(20)} == {200}


def test_without_keys_all_share_one_rate(root: Root):
    with serving(Settings(root=root.path, rate_limit=1)) as client:
        assert 429 in {client.get(AXES).status_code for _ in range(100)}


# -- other sites' pages


def test_without_keys_a_page_of_another_site_reaches_no_data(client: httpx.Client):
    own = f"http://{client.base_url.netloc.decode()}"
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", own.replace("127.0.0.1", "localhost")):
        # Without a media type, a browser asks no leave for it.
        answer = client.post(f"{AXES}/documents/delete", content=b'{"filter": {}}', headers={"Origin": origin})
        check(answer, 403, "forbidden")
    assert client.post(f"{AXES}/search", json={"text": "cloud"}, headers={"Origin": own}).status_code == 200
    assert client.get(AXES).json()["documents"] == 4


def test_without_keys_another_name_for_this_address_reaches_no_data(client: httpx.Client):
    for host in ("evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "", "[", "0.0.0.0"):
        problem = check(client.get(AXES, headers={"Host": host}), 403, "forbidden")
        assert "polyseek keys new" in problem["hint"]
        assert client.get("/livez", headers={"Host": host}).status_code == 200
    for host in ("localhost", "localhost:8000", "127.0.0.1", "127.0.0.7:80", "[::1]", "[::1]:8000"):
        assert client.get(AXES, headers={"Host": host}).status_code == 200, host


def test_with_keys_any_name_and_site_will_do(root: Root):
    headers = {**key(root, "read"), "Host": "search.example.org", "Origin": "https://elsewhere.example"}
    with serving(Settings(root=root.path)) as client:
        assert client.get(AXES, headers=headers).status_code == 200


PREFLIGHT = {
    "Origin": "https://app.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def test_pages_of_the_origins_that_are_set_may_call_after_asking_leave_without_a_key(root: Root):
    headers = key(root, "read")
    with serving(Settings(root=root.path, cors_origins=["https://app.example"])) as client:
        leave = client.options(f"{AXES}/search", headers=PREFLIGHT)
        assert leave.status_code == 200
        assert leave.headers["access-control-allow-origin"] == "https://app.example"
        assert "authorization" in leave.headers["access-control-allow-headers"].lower()
        assert "access-control-allow-credentials" not in leave.headers
        answer = client.post(
            f"{AXES}/search", json={"text": "cloud"}, headers={**headers, "Origin": "https://app.example"}
        )
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        other = client.options(f"{AXES}/search", headers={**PREFLIGHT, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_without_keys_the_origins_that_are_set_may_call(root: Root):
    with serving(Settings(root=root.path, cors_origins=["https://app.example"])) as client:
        assert client.get(AXES, headers={"Origin": "https://app.example"}).status_code == 200
        check(client.get(AXES, headers={"Origin": "https://evil.example"}), 403, "forbidden")


def test_by_default_no_other_origin_is_given_leave(root: Root):
    headers = {**key(root, "read"), "Origin": "https://app.example"}
    with serving(Settings(root=root.path)) as client:
        assert client.options(f"{AXES}/search", headers=PREFLIGHT).status_code == 401
        assert not [name for name in client.get(AXES, headers=headers).headers if name.startswith("access-control")]


# -- headers


def test_every_answer_bears_the_headers_of_a_safe_one(root: Root):
    with serving(Settings(root=root.path, api_key="s3cret", max_body_bytes=1000)) as client:
        refused = client.get(AXES)
        client.headers["Authorization"] = "Bearer s3cret"
        answers = [
            refused,
            client.get(AXES),
            client.get(f"{AXES}/documents/nobody"),
            client.get("/nowhere"),
            client.get("/metrics"),
            client.get("/"),
            client.get("/livez"),
            client.post(f"{AXES}/search", content=b"x" * 2000),
        ]
        assert [answer.status_code for answer in answers] == [401, 200, 404, 404, 200, 200, 200, 413]
        for answer in answers:
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["x-frame-options"] == "DENY"
            [policy] = answer.headers.get_list("content-security-policy")
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
        assert client.get(AXES).headers["cache-control"] == "no-store"
        assert client.get("/").headers["cache-control"] == "no-cache"
