"""The real client of OpenAI, pointed at a real service."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from openai import OpenAI

from retriever.encoder import Encoder
from retriever.root import Root
from service.settings import Settings
from tests.models import MAX_TOKENS, tiny_text_model
from tests.service.conftest import serving

TEXTS = ["Guten Morgen", "a cup of green tea", "雨が降っている"]
KEY = "k" * 40


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with prompts, whose config says that its vectors may be cut to 8 or 16 of 32 dimensions."""
    folder = tiny_text_model(
        tmp_path_factory.mktemp("models") / "tiny", prompts={"query": "query: ", "document": "text: "}
    )
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "matryoshka_dimensions": [8, 16, 32]}))
    return folder


@pytest.fixture(scope="module")
def service(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with a key, whose settings offer `multilingual`; its one collection was built with the tiny model."""
    root = Root(tmp_path_factory.mktemp("data"))
    root.create("tiny", encoder=Encoder.load(model)).close()
    settings = Settings(root=root.path, encoders=["multilingual"], api_key=KEY, max_batch=40, max_text_characters=1_000)
    with serving(settings) as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


@pytest.fixture(scope="module")
def client(service: httpx.Client) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{service.base_url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def vectors(answer: openai.types.CreateEmbeddingResponse) -> np.ndarray:
    return np.array([each.embedding for each in answer.data], np.float32)


def test_a_list_is_answered_in_its_order_by_the_encoders_vectors(client: OpenAI):
    answer = client.embeddings.create(model="multilingual", input=TEXTS)
    expected = Encoder.load("multilingual").encode_documents(TEXTS).vectors
    assert np.min(np.sum(vectors(answer) * expected, axis=1)) >= 0.99999
    assert [each.index for each in answer.data] == [0, 1, 2]
    assert (answer.object, answer.model, answer.data[0].object) == ("list", "multilingual", "embedding")


def test_one_string_is_a_list_of_one(client: OpenAI):
    one = client.embeddings.create(model="multilingual", input=TEXTS[0])
    many = client.embeddings.create(model="multilingual", input=TEXTS)
    np.testing.assert_allclose(vectors(one), vectors(many)[:1], atol=1e-5)


def test_base64_holds_the_same_numbers_as_floats(service: httpx.Client):
    asked = {"model": "multilingual", "input": TEXTS, "user": "somebody"}
    floats = service.post("/v1/embeddings", json=asked).json()["data"]
    packed = service.post("/v1/embeddings", json={**asked, "encoding_format": "base64"}).json()["data"]
    for one, other in zip(floats, packed, strict=True):
        unpacked = np.frombuffer(base64.b64decode(other["embedding"]), "<f4")
        np.testing.assert_allclose(unpacked, one["embedding"], atol=1e-5)
        assert len(unpacked) == 512


def test_an_encoder_of_a_collection_may_be_named_and_gives_each_role_its_prompt(client: OpenAI, model: Path):
    encoder = Encoder.load(model)
    roles = {"document": encoder.encode_documents, "query": encoder.encode_queries}
    made = {
        role: vectors(client.embeddings.create(model=str(model), input=["tea"], extra_body={"input_type": role}))
        for role in roles
    }
    for role, encode in roles.items():
        assert float(made[role][0] @ encode(["tea"]).vectors[0]) >= 0.99999
    assert float(made["query"][0] @ made["document"][0]) < 0.9999
    by_default = client.embeddings.create(model=str(model), input=["tea"])
    np.testing.assert_allclose(vectors(by_default), made["document"], atol=1e-5)


def test_dimensions_cut_a_matryoshka_models_vectors_to_unit_length(client: OpenAI, model: Path):
    short = vectors(client.embeddings.create(model=str(model), input=["tea", "bread"], dimensions=16))
    expected = Encoder.load(model, truncate_dim=16).encode_documents(["tea", "bread"]).vectors
    np.testing.assert_allclose(short, expected, atol=1e-5)
    whole = client.embeddings.create(model=str(model), input=["tea", "bread"], dimensions=32)
    assert vectors(whole).shape == (2, 32)


@pytest.mark.parametrize(("dimensions", "known"), [(12, "8, 16, 32"), (64, "8, 16, 32")])
def test_other_dimensions_are_refused_with_those_there_are(client: OpenAI, model: Path, dimensions: int, known: str):
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=str(model), input="tea", dimensions=dimensions)
    assert refused.value.body["hint"] == f"ask for {known}"


def test_a_model_that_states_nothing_is_not_cut(client: OpenAI):
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="multilingual", input="tea", dimensions=256)
    assert refused.value.body["detail"] == "this model gives no vectors of 256 dimensions"


def test_a_text_too_long_for_the_model_is_cut_and_counted_as_cut(client: OpenAI, model: Path):
    answer = client.embeddings.create(model=str(model), input=["tea", "tea " * 200])
    assert [each.truncated for each in answer.data] == [False, True]
    assert MAX_TOKENS < answer.usage.prompt_tokens < 2 * MAX_TOKENS
    assert answer.usage.total_tokens == answer.usage.prompt_tokens


def test_an_unknown_model_is_not_found_and_the_hint_names_those_there_are(client: OpenAI, model: Path):
    with pytest.raises(openai.NotFoundError) as refused:
        client.embeddings.create(model="text-embedding-3-small", input="tea")
    assert refused.value.code == "unknown_model"
    assert refused.value.body["hint"] == f"there are: multilingual, {model}"


def test_an_encoder_that_the_settings_do_not_offer_is_not_loaded(client: OpenAI):
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="english", input="tea")


def test_a_wrong_key_raises_the_clients_own_class(service: httpx.Client):
    with (
        OpenAI(base_url=f"{service.base_url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.embeddings.create(model="multilingual", input="tea")


@pytest.mark.parametrize(
    ("members", "pointer", "detail"),
    [
        ({"input": [9906, 1917]}, "/input", "token ids are not taken"),
        ({"input": [[9906], [1917]]}, "/input", "token ids are not taken"),
        ({"input": []}, "/input", "at least 1 item"),
        ({"input": ""}, "/input/0", "at least 1 character"),
        ({"input": ["tea", ""]}, "/input/1", "at least 1 character"),
        ({"input": ["tea"] * 41}, "/input", "max_batch is 40"),
        ({"input": ["tea", "x" * 1_001]}, "/input/1", "max_text_characters is 1000"),
        ({"input": ["tea", None]}, "/input/1", "valid string"),
        ({"dimensions": 0}, "/dimensions", "greater than or equal to 1"),
        ({"dimensions": "8"}, "/dimensions", "valid integer"),
        ({"encoding_format": "int8"}, "/encoding_format", "'float' or 'base64'"),
        ({"input_type": "passage"}, "/input_type", "'query' or 'document'"),
        ({"prompt": "tea"}, "/prompt", "not permitted"),
    ],
)
def test_a_bad_request_says_where_it_is_bad(client: OpenAI, members: dict, pointer: str, detail: str):
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/embeddings", body={"model": "multilingual", "input": "tea", **members}, cast_to=httpx.Response)
    [error] = refused.value.body["errors"]
    assert error["pointer"] == pointer
    assert detail in error["detail"]


def test_a_lone_surrogate_fails_its_request_and_no_other(service: httpx.Client):
    bad = service.post(
        "/v1/embeddings",
        content=rb'{"model": "multilingual", "input": ["tea", "\ud800"]}',
        headers={"Content-Type": "application/json"},
    )
    assert bad.status_code == 400
    assert service.post("/v1/embeddings", json={"model": "multilingual", "input": "tea"}).status_code == 200
