import httpx

from retriever.root import Root
from service.settings import Settings
from tests.service.conftest import ready, serving


def damage(root: Root, name: str) -> None:
    for file in (root.path / name).glob("collection.sqlite*"):
        file.write_bytes(b"not a database " * 1000)


def test_a_service_is_alive_at_once_and_ready_when_it_has_searched(notes: httpx.Client):
    assert notes.get("/livez").json() == {"status": "alive"}
    assert ready(notes).json() == {"status": "ready", "collections": ["notes"], "failing": {}}


def test_a_service_without_collections_is_ready(tmp_path):
    with serving(Settings(root=tmp_path / "none-yet")) as client:
        assert ready(client).json()["collections"] == []
        assert client.get("/v1/collections").json() == {"collections": [], "aliases": {}}


def test_a_damaged_collection_is_named_while_the_others_serve(root: Root):
    root.create("broken", encoder=None).close()
    damage(root, "broken")
    with serving(Settings(root=root.path)) as client:
        answer = ready(client)
        assert (answer.status_code, answer.json()["collections"]) == (200, ["axes"])
        assert answer.json()["failing"]["broken"]["code"] == "corrupt_collection"
        assert 'polyseek_collection_up{collection="broken"} 0.0' in client.get("/metrics").text


def test_a_service_of_which_no_collection_answers_is_not_ready(root: Root):
    damage(root, "axes")
    with serving(Settings(root=root.path)) as client:
        answer = ready(client)
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert "axes" in answer.json()["detail"]


def test_metrics_count_requests_by_route_and_tell_of_collections(client: httpx.Client):
    for i in range(3):
        client.get(f"/v1/collections/axes/documents/axis{i}")
    client.get("/v1/collections/axes/documents/nobody")
    client.get("/nowhere")
    text = client.get("/metrics").text
    route = "/v1/collections/{name}/documents/{id:path}"
    assert f'polyseek_requests_total{{method="GET",route="{route}",status="200"}} 3.0' in text
    assert f'polyseek_requests_total{{method="GET",route="{route}",status="404"}} 1.0' in text
    assert 'polyseek_requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert f'polyseek_request_seconds_count{{method="GET",route="{route}"}} 4.0' in text
    assert 'polyseek_collection_documents{collection="axes"} 4.0' in text
    assert 'polyseek_collection_up{collection="axes"} 1.0' in text


def test_with_a_key_only_health_and_the_empty_page_are_open(root: Root):
    with serving(Settings(root=root.path, api_key="s3cret")) as client:
        for path in ("/livez", "/", "/page/main.js"):
            assert client.get(path).status_code == 200, path
        for path in ("/v1/collections", "/metrics", "/openapi.json", "/docs", "/nowhere", "/page/../v1/collections"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), path
            assert answer.headers["www-authenticate"] == "Bearer"
        for header in ("Bearer wrong", "Bearer s3cre", "Basic s3cret", "s3cret", "Bearer"):
            assert client.get("/v1/collections", headers={"Authorization": header}).status_code == 401, header
        for header in ("Bearer s3cret", "bearer s3cret"):
            assert client.get("/v1/collections", headers={"Authorization": header}).status_code == 200, header
