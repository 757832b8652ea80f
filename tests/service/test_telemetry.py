"""What Prometheus is told, after traffic whose every figure is known."""

import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from retriever.collection import Collection
from retriever.documents import Document
from retriever.files import locked
from retriever.root import Root
from service import readiness
from service.settings import Settings
from tests.models import tiny_text_model
from tests.retriever.small import index_matters
from tests.service.conftest import raw, ready, serving
from tests.service.held import metric, until
from tests.service.many import COUNT, document, made

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
# Labels that Prometheus gives every sample.
GIVEN = {"instance", "job"}
ROW = re.compile(r"^\| `(polyseek_\w+)(?:\{([\w,]+)\})?` \| (.*) \|$", re.MULTILINE)
SEARCH = "/v1/collections/words/search"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(client: httpx.Client) -> Samples:
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = (sample for family in families for sample in family.samples)
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}


class Growth:
    """How much a sample has grown since this was made."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._before = samples(client)

    def __call__(self, name: str, **labels: str) -> float:
        at = (f"polyseek_{name}", frozenset(labels.items()))
        return samples(self._client).get(at, 0) - self._before.get(at, 0)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service over `words`, which has an encoder."""
    path = tmp_path_factory.mktemp("words")
    root = Root(path / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYSEEK_CACHE", str(path / "cache"))
        with root.create("words", encoder=root.load_encoder(str(tiny_text_model(path / "model")))) as collection:
            collection.upsert([Document(id="a", text="water")])
        with serving(Settings(root=root.path, queue=77)) as client:
            ready(client)
            yield client


# -- what there is


def test_the_page_on_the_service_lists_every_metric_with_its_labels_and_sentence(words: httpx.Client):
    words.post(SEARCH, json={"text": "water"})
    served = {}
    for family in text_string_to_metric_families(words.get("/metrics").text):
        if family.name.startswith("polyseek_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            served[name] = (labels, family.documentation)
    page = (REPOSITORY / "docs" / "service.md").read_text()
    listed = {name: (set(filter(None, labels.split(","))), says) for name, labels, says in ROW.findall(page)}
    assert listed == served


def test_a_counter_is_there_before_it_first_counts(client: httpx.Client):
    for reason in ("full", "timed_out", "client_gone"):
        assert f'polyseek_dropped_total{{reason="{reason}"}} 0.0' in client.get("/metrics").text
    for stage in ("queue", "encode", "write"):
        assert f'polyseek_stage_seconds_count{{stage="{stage}"}} 0.0' in client.get("/metrics").text


def test_the_process_is_told_of(client: httpx.Client):
    found = {name: value for (name, _), value in samples(client).items()}
    for name in ("resident_memory_bytes", "cpu_seconds_total", "open_fds", "start_time_seconds"):
        assert found[f"process_{name}"] > 0


# -- requests


def test_requests_are_counted_and_timed_by_the_pattern_of_their_route(words: httpx.Client):
    grown = Growth(words)
    for collection in ("words", "words", "nobody"):
        words.post(f"/v1/collections/{collection}/search?secret=1", json={"text": "water", "mode": "lexical"})
    route = "/v1/collections/{name}/search"
    assert grown("requests_total", method="POST", route=route, status="200") == 2
    assert grown("requests_total", method="POST", route=route, status="404") == 1
    assert grown("request_seconds_count", method="POST", route=route) == 3
    assert 0 < grown("request_seconds_sum", method="POST", route=route) < 3 * 30


def test_no_client_can_add_labels_without_end(client: httpx.Client):
    client.get("/metrics")
    for method in ("PROPFIND", "MKCOL", "LOCK", "GET"):
        raw(client, method, "/v1/collections")
        raw(client, method, f"/nowhere/{method}")
        raw(client, method, f"/v1/collections/c{method}")
        raw(client, method, f"/page/{method}.js")
    labels = [dict(labels) for name, labels in samples(client) if name == "polyseek_requests_total"]
    assert {each["method"] for each in labels} == {"GET", "other"}
    routes = {"none", "/metrics", "/v1/collections", "/v1/collections/{name}", "/page/{file}"}
    assert {each["route"] for each in labels} <= routes
    assert len(labels) <= 3 + 2 * len(routes)


# -- the parts of an answer


def test_stages_batches_and_the_cache_are_counted_for_what_was_done(words: httpx.Client):
    grown = Growth(words)
    texts = ["red water", "blue water", "green water"]
    for _ in range(2):
        answer = words.post(f"{SEARCH}/batch", json={"searches": [{"text": text} for text in texts]})
        assert [len(result["hits"]) for result in answer.json()["results"]] == [1, 1, 1]
    assert grown("stage_seconds_count", stage="queue") == 3
    assert grown("stage_seconds_count", stage="encode") == 1
    assert grown("stage_seconds_count", stage="search") == 6
    assert grown("stage_seconds_count", stage="write") == 0
    assert (grown("batch_texts_count"), grown("batch_texts_sum")) == (1, 3)
    # One token a letter, and one at either end.
    assert (grown("batch_tokens_count"), grown("batch_tokens_sum")) == (
        1,
        sum(len(text.replace(" ", "")) + 2 for text in texts),
    )
    assert (grown("query_cache_total", outcome="miss"), grown("query_cache_total", outcome="hit")) == (3, 3)


def test_a_write_is_a_stage(words: httpx.Client):
    grown = Growth(words)
    for number in range(2):
        words.put("/v1/collections/words/documents", json={"documents": [{"id": f"b{number}", "text": "milk"}]})
    words.delete("/v1/collections/words/documents/b0")
    assert grown("stage_seconds_count", stage="write") == 3


def test_the_bound_of_the_queue_is_told_beside_its_length(words: httpx.Client):
    assert (metric(words, "queue_length"), metric(words, "queue_limit")) == (0, 77)


# -- scrapes


def test_a_scrape_is_answered_while_every_thread_that_reads_is_busy(root: Root, monkeypatch: pytest.MonkeyPatch):
    go_on, reading = threading.Event(), Collection.get

    def wait(self: Collection, name: str) -> Document:
        assert go_on.wait(60)
        return reading(self, name)

    with serving(Settings(root=root.path, threads=1, queue=1)) as client, ThreadPoolExecutor(3) as pool:
        ready(client)
        monkeypatch.setattr(Collection, "get", wait)
        path = f"{client.base_url}/v1/collections/axes/documents/axis1"
        try:
            asked = [pool.submit(httpx.get, path, timeout=60) for _ in range(3)]
            until(lambda: metric(client, "dropped_total", reason="full") == 1)
            assert metric(client, "collection_documents", collection="axes") == 4
        finally:
            go_on.set()
        assert sorted(answer.result().status_code for answer in asked) == [200, 200, 503]


def test_a_scrape_opens_no_collection_and_loads_no_encoder(root: Root, tmp_path: Path):
    with serving(Settings(root=root.path)) as client:
        ready(client)
        model = str(tiny_text_model(tmp_path / "model"))
        with root.create("later", encoder=root.load_encoder(model)) as later:
            later.upsert([Document(id="a", text="water")])
        for _ in range(3):
            assert 'polyseek_collection_up{collection="later"} 0.0' in client.get("/metrics").text
        assert 'polyseek_collection_documents{collection="later"}' not in client.get("/metrics").text
        assert client.post("/v1/collections/later/search", json={"text": "water"}).status_code == 200
        assert metric(client, "collection_up", collection="later") == 1
        assert metric(client, "collection_documents", collection="later") == 1


# -- collections


def test_what_a_collection_holds_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    index_matters(monkeypatch.setattr)
    root = made(tmp_path)
    with serving(Settings(root=root.path)) as client, locked(tmp_path / "many" / "indexer.lock", wait=True):
        ready(client)

        def told(name: str) -> float:
            return metric(client, f"collection_{name}", collection="many")

        assert (told("up"), told("degraded"), metric(client, "troubles")) == (1, 0, 0)
        assert (told("documents"), told("units"), told("tail_units")) == (COUNT, COUNT, 0)
        info = client.get("/v1/collections/many").json()
        assert told("generation") == info["generation"]
        assert told("recall") == info["recall"]
        assert metric(client, "collection_index_info", collection="many", kind="ivf") == 1
        generation, size = told("generation"), told("bytes")
        with root.open("many", background=False) as other:
            other.upsert([document(COUNT), document(COUNT + 1)])
        assert (told("documents"), told("units"), told("generation")) == (COUNT + 2, COUNT + 2, generation + 1)
        assert told("tail_units") == 2
        assert told("bytes") >= size > COUNT * 16 * 4


def test_a_collection_that_cannot_be_read_is_down_and_one_that_was_dropped_is_gone(
    root: Root, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0.0)
    root.create("more", encoder=None).close()
    root.create("broken", encoder=None).close()
    for file in (root.path / "broken").glob("collection.sqlite*"):
        file.write_bytes(b"not a database " * 1000)
    with serving(Settings(root=root.path)) as client:
        ready(client)
        up = {name: metric(client, "collection_up", collection=name) for name in ("axes", "more", "broken")}
        assert up == {"axes": 1, "more": 1, "broken": 0}
        assert 'polyseek_collection_documents{collection="broken"}' not in client.get("/metrics").text
        assert metric(client, "troubles") == 1
        client.delete("/v1/collections/more")
        assert 'collection="more"' not in client.get("/metrics").text


# -- what reads them


def names_in(expressions: list[str]) -> set[str]:
    return {name for expression in expressions for name in re.findall(r"\b(?:polyseek|process)_\w+", expression)}


def check_names(client: httpx.Client, expressions: list[str]) -> None:
    """Every expression names metrics, each with labels, that the service serves."""
    served: dict[str, set[str]] = defaultdict(set)
    for name, labels in samples(client):
        served[name] |= dict(labels).keys()
    assert all(names_in([expression]) for expression in expressions)
    assert names_in(expressions) - set(served) == set()
    for expression in expressions:
        for name, matchers in re.findall(r"(\w+)\{(.*?)\}", expression):
            assert set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers)) - GIVEN <= served[name], name


def test_the_dashboard_asks_for_what_the_service_serves(words: httpx.Client):
    words.post(SEARCH, json={"text": "water"})
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(targets) >= 15
    check_names(words, [target["expr"] for target in targets])
    assert {target["datasource"]["uid"] for target in targets} == {"prometheus"}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_alerts_ask_for_what_the_service_serves_and_say_what_to_do(words: httpx.Client):
    words.post(SEARCH, json={"text": "water"})
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    rules: list[dict[str, Any]] = [rule for group in groups for rule in group["rules"]]
    check_names(words, [rule["expr"] for rule in rules if not rule["expr"].startswith("up{")])
    for rule in rules:
        assert {"alert", "expr", "for", "labels", "annotations"} == set(rule)
        assert set(rule["annotations"]) == {"summary", "description"}


def test_grafana_finds_prometheus_and_the_dashboard_where_compose_mounts_them():
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
    assert "./deploy/alerts.yml:/etc/prometheus/alerts.yml:ro" in compose["prometheus"]["volumes"]
    assert yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["rule_files"] == ["alerts.yml"]
    sources = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())
    [source] = sources["datasources"]
    assert (source["uid"], source["url"]) == ("prometheus", "http://prometheus:9090")
    providers = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "dashboards" / "polyseek.yml").read_text())
    [provider] = providers["providers"]
    mounts = dict(volume.removesuffix(":ro").split(":") for volume in compose["grafana"]["volumes"])
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    assert mounts["./deploy/grafana/dashboard.json"] == f"{provider['options']['path']}/polyseek.json"
