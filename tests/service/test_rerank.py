from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from retriever.rerank import Reranker
from service.settings import Settings
from tests.models import tiny_cross_encoder
from tests.service.conftest import serving

QUERY = "number three"
# More than are read in one turn.
DOCUMENTS = [f"passage number {number}" for number in range(40)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cross_encoder(tmp_path_factory.mktemp("models") / "cross")


@pytest.fixture(scope="module")
def reranking(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = Settings(
        root=tmp_path_factory.mktemp("data"), reranker=str(model), max_batch=50, max_text_characters=1_000
    )
    with serving(settings) as client:
        yield client


def test_documents_come_in_the_order_of_the_cross_encoders_scores(reranking: httpx.Client, model: Path):
    answer = reranking.post("/v1/rerank", json={"query": QUERY, "documents": DOCUMENTS})
    assert answer.status_code == 200
    results = answer.json()["results"]
    scores = Reranker.load(model).score(QUERY, DOCUMENTS)
    assert [result["index"] for result in results] == sorted(range(40), key=lambda i: -scores[i])
    np.testing.assert_allclose([result["relevance_score"] for result in results], np.sort(scores)[::-1], atol=1e-6)
    assert answer.json()["model"] == str(model)


def test_top_n_keeps_the_best_and_documents_are_repeated_where_asked(reranking: httpx.Client):
    asked = {"query": QUERY, "documents": DOCUMENTS, "top_n": 2, "return_documents": True}
    every = reranking.post("/v1/rerank", json={**asked, "top_n": None}).json()["results"]
    best = reranking.post("/v1/rerank", json=asked).json()["results"]
    assert best == every[:2]
    assert [result["document"]["text"] for result in best] == [DOCUMENTS[result["index"]] for result in best]


def test_documents_may_be_objects_with_a_text(reranking: httpx.Client):
    plain = reranking.post("/v1/rerank", json={"query": QUERY, "documents": DOCUMENTS[:3]})
    objects = [{"text": text} for text in DOCUMENTS[:3]]
    assert reranking.post("/v1/rerank", json={"query": QUERY, "documents": objects}).json() == plain.json()


def test_the_configured_model_may_be_named_and_no_other(reranking: httpx.Client, model: Path):
    asked = {"query": QUERY, "documents": DOCUMENTS[:2]}
    assert reranking.post("/v1/rerank", json={**asked, "model": str(model)}).status_code == 200
    other = reranking.post("/v1/rerank", json={**asked, "model": "rerank-other"})
    assert (other.status_code, other.json()["code"]) == (404, "unknown_model")
    assert str(model) in other.json()["hint"]


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"documents": []}, "/documents"),
        ({"documents": DOCUMENTS + DOCUMENTS}, "/documents"),
        ({"documents": ["short", "x" * 1_001]}, "/documents/1"),
        ({"documents": ["a", {"title": "b"}]}, "/documents/1"),
        ({"query": ""}, "/query"),
        ({"query": "x" * 1_001}, "/query"),
        ({"top_n": 0}, "/top_n"),
        ({"top_n": "2"}, "/top_n"),
        ({"threshold": 0.5}, "/threshold"),
    ],
)
def test_what_cannot_be_reranked_is_refused_at_its_place(reranking: httpx.Client, members: dict, pointer: str):
    answer = reranking.post("/v1/rerank", json={"query": QUERY, "documents": DOCUMENTS[:2], **members})
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_without_a_reranker_the_answer_says_how_to_get_one(client: httpx.Client):
    asked = {"query": QUERY, "documents": DOCUMENTS[:2]}
    refusals = [
        client.post("/v1/rerank", json=asked),
        client.post("/v1/collections/axes/search", json={"text": "apple", "mode": "lexical", "rerank": True}),
    ]
    for answer in refusals:
        assert (answer.status_code, answer.json()["code"]) == (400, "no_reranker")
        assert "POLYSEEK_RERANKER" in answer.json()["hint"]


def test_collections_open_and_search_without_loading_a_reranker_that_is_missing(root, tmp_path: Path):
    with serving(Settings(root=root.path, reranker=str(tmp_path / "nowhere"))) as client:
        plain = {"text": "apple", "mode": "lexical"}
        assert client.post("/v1/collections/axes/search", json=plain).status_code == 200
        answers = [
            client.post("/v1/collections/axes/search", json={**plain, "rerank": True}),
            client.post("/v1/rerank", json={"query": "a", "documents": ["b"]}),
        ]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "model_unavailable")] * 2


def test_what_takes_longer_than_the_limit_is_given_up(model: Path, tmp_path: Path):
    with serving(Settings(root=tmp_path, reranker=str(model), max_timeout=0.001)) as client:
        answer = client.post("/v1/rerank", json={"query": QUERY, "documents": DOCUMENTS})
        assert (answer.status_code, answer.json()["code"]) == (504, "timed_out")
