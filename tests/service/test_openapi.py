import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from retriever.documents import Document
from retriever.root import Root
from service.schemas import BatchBody, CollectionBody, DeleteBody, DocumentsBody, EmbeddingsBody, RerankBody, SearchBody
from service.settings import Settings
from tests.models import tiny_cross_encoder
from tests.service.conftest import axes, serving

FROZEN = Path(__file__).parents[2] / "docs" / "openapi.json"
Described = dict[str, Any]


@pytest.fixture(scope="module")
def document(notes: httpx.Client) -> Described:
    return notes.get("/openapi.json").json()


def operations(document: Described) -> list[tuple[str, str, Described]]:
    return [(path, method, each) for path, methods in document["paths"].items() for method, each in methods.items()]


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(member) for member in value.values()))
    return set().union(*(references(member) for member in value)) if isinstance(value, list) else set()


def test_what_is_served_is_what_the_repository_holds(document: Described):
    frozen = json.loads(FROZEN.read_text())
    assert document == frozen, "the interface changed; if it is meant to: python -m service.openapi > docs/openapi.json"


def test_every_route_says_what_it_does_and_answers_errors_as_problems(document: Described):
    assert len(operations(document)) >= 17
    for path, method, operation in operations(document):
        assert operation["description"], (path, method)
        assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}
        assert "422" not in operation["responses"]
    problem = document["components"]["responses"]["Problem"]["content"]
    assert problem["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_every_operation_belongs_to_a_tag_that_is_described(document: Described):
    described = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert {tag for _, _, operation in operations(document) for tag in operation["tags"]} == described.keys()
    assert all(described.values())


def test_every_operation_names_its_scope_and_how_it_is_refused(document: Described):
    taken = {
        (method, path): operation["security"][0]["key"][0]
        for path, method, operation in operations(document)
        if operation["security"]
    }
    open_ones = {path for path, _, operation in operations(document) if not operation["security"]}
    assert open_ones == {"/livez", "/readyz"}
    assert {key for key, scope in taken.items() if scope == "write"} == {
        ("put", "/v1/collections/{name}"),
        ("delete", "/v1/collections/{name}"),
        ("put", "/v1/collections/{name}/documents"),
        ("post", "/v1/collections/{name}/documents/delete"),
        ("delete", "/v1/collections/{name}/documents/{id}"),
    }
    for method, path in taken:
        assert {"401", "403", "429", "503", "504"} <= document["paths"][path][method]["responses"].keys()
    assert document["components"]["responses"]["RateLimited"]["headers"].keys() == {"Retry-After", "X-Request-ID"}


def test_every_reference_leads_somewhere(document: Described):
    for reference in references(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_every_route_with_a_body_describes_it(document: Described):
    described = {
        path.removeprefix("/v1/collections/{name}"): set(operation["requestBody"]["content"])
        for path, _, operation in operations(document)
        if "requestBody" in operation
    }
    assert described == {
        "": {"application/json"},
        "/search": {"application/json", "multipart/form-data"},
        "/search/batch": {"application/json"},
        "/documents": {"application/json"},
        "/documents/delete": {"application/json"},
        "/v1/embeddings": {"application/json"},
        "/v1/rerank": {"application/json"},
    }


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service that can do all there is, over the collection `axes`, which the examples may change."""
    root = Root(tmp_path_factory.mktemp("data"))
    with root.create("axes", encoder=None) as collection:
        vector = np.ones(4, np.float32)
        named = [Document(id=name, text=name, metadata={"year": 1999}, vector=vector) for name in ("a1", "b1")]
        collection.upsert([*axes(), *named])
    reranker = tiny_cross_encoder(tmp_path_factory.mktemp("models") / "cross")
    with serving(Settings(root=root.path, reranker=str(reranker))) as client:
        yield client


@pytest.mark.parametrize(
    ("body", "method", "path"),
    [
        (SearchBody, "POST", "/v1/collections/axes/search"),
        (BatchBody, "POST", "/v1/collections/axes/search/batch"),
        (DocumentsBody, "PUT", "/v1/collections/axes/documents"),
        (DeleteBody, "POST", "/v1/collections/axes/documents/delete"),
        (EmbeddingsBody, "POST", "/v1/embeddings"),
        (RerankBody, "POST", "/v1/rerank"),
        (CollectionBody, "PUT", "/v1/collections/made"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_examples_of_a_body_work(document: Described, complete: httpx.Client, body: type, method: str, path: str):
    examples = document["components"]["schemas"][body.__name__]["examples"]
    for example in examples:
        answer = complete.request(method, path, json=example)
        assert answer.status_code in (200, 201), answer.text
        assert all("status" not in result for result in answer.json().get("results", [])), answer.text
    assert examples


def test_a_search_answers_in_the_described_form(document: Described, notes: httpx.Client):
    answer = notes.post("/v1/collections/notes/search", json={"text": "tea", "explain": True}).json()
    described = document["components"]["schemas"]["SearchResponse"]["properties"]
    assert answer.keys() == described.keys()
    assert answer["hits"][0].keys() == document["components"]["schemas"]["Hit"]["properties"].keys()


def test_routes_that_are_read_answer_head_as_get_without_the_body(document: Described, notes: httpx.Client):
    readable = [path for path, method, _ in operations(document) if method == "get" and "{id}" not in path]
    for path in (*readable, "/v1/collections/{name}/documents/tea", "/", "/docs", "/openapi.json"):
        here = path.replace("{name}", "notes")
        head, got = notes.head(here), notes.get(here)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-type"] == got.headers["content-type"], path


def test_a_head_of_what_is_not_there_is_refused_as_its_get_is(notes: httpx.Client):
    assert notes.head("/v1/collections/nowhere").status_code == 404
    assert notes.head("/v1/rerank").status_code == 405
