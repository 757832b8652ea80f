from typing import Any

import httpx
import pytest

from service.schemas import BatchBody, CollectionBody, DeleteBody, DocumentsBody, SearchBody


@pytest.fixture(scope="module")
def document(notes: httpx.Client) -> dict[str, Any]:
    return notes.get("/openapi.json").json()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, each) for path, methods in document["paths"].items() for method, each in methods.items()]


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(member) for member in value.values()))
    return set().union(*(references(member) for member in value)) if isinstance(value, list) else set()


def test_every_route_says_what_it_does_and_answers_errors_as_problems(document: dict[str, Any]):
    assert len(operations(document)) >= 15
    for path, method, operation in operations(document):
        assert operation["description"], (path, method)
        assert operation["responses"]["default"] == {"$ref": "#/components/responses/Problem"}
        assert "422" not in operation["responses"]
    problem = document["components"]["responses"]["Problem"]["content"]
    assert problem["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_every_reference_leads_somewhere(document: dict[str, Any]):
    for reference in references(document):
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_every_route_with_a_body_describes_it(document: dict[str, Any]):
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
    }


def test_the_examples_work(document: dict[str, Any], client: httpx.Client):
    examples = {name: schema.get("examples", []) for name, schema in document["components"]["schemas"].items()}
    for body in (CollectionBody, SearchBody, BatchBody, DocumentsBody, DeleteBody):
        assert examples[body.__name__], body
    base = "/v1/collections/axes"
    for example in examples["SearchBody"]:
        assert client.post(f"{base}/search", json=example).status_code == 200
    for example in examples["BatchBody"]:
        assert client.post(f"{base}/search/batch", json=example).status_code == 200
    for example in examples["DocumentsBody"]:
        assert client.put(f"{base}/documents", json=example).status_code == 200
    for example in examples["DeleteBody"]:
        assert client.post(f"{base}/documents/delete", json=example).status_code in (200, 400)


def test_a_search_answers_in_the_described_form(document: dict[str, Any], notes: httpx.Client):
    answer = notes.post("/v1/collections/notes/search", json={"text": "tea", "explain": True}).json()
    described = document["components"]["schemas"]["SearchResponse"]["properties"]
    assert answer.keys() == described.keys()
    assert answer["hits"][0].keys() == document["components"]["schemas"]["Hit"]["properties"].keys()
