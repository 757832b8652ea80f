import shutil
import threading

import httpx

from retriever.documents import Document
from retriever.root import Root
from service import readiness
from service.settings import Settings
from tests.models import tiny_cross_encoder, tiny_text_model, two_tower_model
from tests.service.conftest import ready, serving
from tests.service.held import Held, until


def damage(root: Root, name: str) -> None:
    for file in (root.path / name).glob("collection.sqlite*"):
        file.write_bytes(b"not a database " * 1000)


def test_a_service_is_alive_at_once_and_ready_when_it_has_searched(notes: httpx.Client):
    assert notes.get("/livez").json() == {"status": "alive"}
    assert ready(notes).json() == {"status": "ready", "collections": ["notes"], "failing": {}, "degraded": {}}


def test_a_service_without_collections_is_ready(tmp_path):
    with serving(Settings(root=tmp_path / "none-yet")) as client:
        assert ready(client).json()["collections"] == []
        assert client.get("/v1/collections").json() == {"collections": [], "aliases": {}}


def test_a_damaged_collection_is_named_while_the_others_serve(root: Root):
    root.create("broken", encoder=None).close()
    damage(root, "broken")
    with serving(Settings(root=root.path)) as client:
        answer = ready(client)
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["collections"] == ["axes"]
        assert answer.json()["failing"]["broken"]["code"] == "corrupt_collection"
        assert 'polyseek_collection_up{collection="broken"} 0.0' in client.get("/metrics").text


def test_a_service_of_which_no_collection_answers_is_not_ready(root: Root):
    damage(root, "axes")
    with serving(Settings(root=root.path)) as client:
        answer = ready(client)
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert "axes" in answer.json()["detail"]


def test_a_collection_that_is_made_dropped_or_broken_later_is_seen(root: Root, monkeypatch):
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(readiness, "WAIT_SECONDS", 30.0)  # however busy the machine is
    with serving(Settings(root=root.path)) as client:
        assert ready(client).json()["collections"] == ["axes"]
        root.create("more", encoder=None).close()
        assert client.get("/readyz").json()["collections"] == ["axes", "more"]
        root.set_alias("live", "more")
        assert client.get("/readyz").json()["status"] == "ready"
        shutil.rmtree(root.path / "more")
        body = client.get("/readyz").json()
        assert (body["status"], body["collections"]) == ("degraded", ["axes"])
        assert body["failing"]["live"]["code"] == "unknown_collection"


def test_one_collection_that_takes_long_is_named_and_holds_up_no_other(root: Root, tmp_path, monkeypatch):
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0.0)
    model = str(tiny_text_model(tmp_path / "model"))
    with root.create("slow", encoder=root.load_encoder(model)) as slow:
        slow.upsert([Document(id="a", text="water")])
    held, loading = threading.Event(), Root.load_encoder

    def load(self, name):
        assert held.wait(60)
        return loading(self, name)

    monkeypatch.setattr(Root, "load_encoder", load)
    monkeypatch.setattr(readiness, "START_SECONDS", 0.5)
    monkeypatch.setattr(readiness, "WAIT_SECONDS", 0.05)
    with serving(Settings(root=root.path)) as client:
        first = client.get("/readyz")
        assert first.status_code == 503
        answer = ready(client)
        assert (answer.status_code, answer.json()["collections"]) == (200, ["axes"])
        assert answer.json()["degraded"] == {"slow": "its first search is not answered yet"}
        held.set()
        until(lambda: client.get("/readyz").json()["status"] == "ready")
        assert client.get("/readyz").json()["collections"] == ["axes", "slow"]


def test_an_encoder_that_hangs_is_found_by_readyz_while_livez_goes_on(root: Root, tmp_path, monkeypatch):
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(readiness, "WAIT_SECONDS", 0.05)
    model = str(tiny_text_model(tmp_path / "model"))
    encoder = Held.load(model)
    monkeypatch.setattr(Root, "load_encoder", lambda _self, _name: encoder)
    with root.create("words", encoder=encoder) as words:
        words.upsert([Document(id="a", text="water")])
    with serving(Settings(root=root.path)) as client:
        assert ready(client).json()["collections"] == ["axes", "words"]
        encoder.hold("document")
        client.get("/readyz")
        monkeypatch.setattr(readiness, "PATIENCE_SECONDS", 0.1)
        until(lambda: "words" in client.get("/readyz").json()["failing"])
        body = client.get("/readyz").json()
        assert (body["status"], body["collections"]) == ("degraded", ["axes"])
        assert body["failing"]["words"]["code"] == "timed_out"
        assert client.get("/livez").status_code == 200
        encoder.release()
        until(lambda: client.get("/readyz").json()["status"] == "ready")


def test_a_start_says_what_it_does_and_warms_each_mode(root: Root, caplog):
    with caplog.at_level("INFO", "polyseek.service"), serving(Settings(root=root.path)) as client:
        assert ready(client).status_code == 200
    [answered] = [record for record in caplog.records if "axes answers" in record.getMessage()]
    assert set(answered.milliseconds) == {"open", "encode", "search"}
    assert any(record.getMessage().startswith("ready after") for record in caplog.records)


def test_a_reranker_that_cannot_be_loaded_is_said_while_everything_else_is_answered(root: Root, tmp_path):
    with serving(Settings(root=root.path, reranker=str(tmp_path / "none"))) as client:
        answer = ready(client)
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert "the reranker" in answer.json()["degraded"]
        assert client.post("/v1/collections/axes/search", json={"text": "cloud"}).status_code == 200


def test_a_service_with_pictures_and_a_reranker_is_ready_when_it_has_encoded_and_read(root: Root, tmp_path, caplog):
    model, reranker = two_tower_model(tmp_path / "model"), tiny_cross_encoder(tmp_path / "reranker")
    with root.create("pictures", encoder=root.load_encoder(str(model))) as pictures:
        pictures.upsert([Document(id="a", captions={"en": ["a red square"]})])
    settings = Settings(root=root.path, reranker=str(reranker))
    with caplog.at_level("INFO", "polyseek.service"), serving(settings) as client:
        assert ready(client).json()["degraded"] == {}
        assert client.get("/readyz").json()["collections"] == ["axes", "pictures"]
        assert client.get("/livez").status_code == 200
    assert "the reranker has read a pair" in caplog.text


def test_a_damaged_file_of_keys_is_said(root: Root):
    (root.path / "keys.json").write_text('{"keys": []}')
    with serving(Settings(root=root.path, api_key="s3cret")) as client:
        ready(client)
        (root.path / "keys.json").write_text("not JSON")
        assert "keys.json" in client.get("/readyz").json()["degraded"]


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
        for path in ("/v1/collections", "/metrics", "/nowhere", "/page/../v1/collections"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), path
            assert answer.headers["www-authenticate"] == "Bearer"
        for header in ("Bearer wrong", "Bearer s3cre", "Basic s3cret", "s3cret", "Bearer"):
            assert client.get("/v1/collections", headers={"Authorization": header}).status_code == 401, header
        for header in ("Bearer s3cret", "bearer s3cret"):
            assert client.get("/v1/collections", headers={"Authorization": header}).status_code == 200, header
