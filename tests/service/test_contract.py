"""The service does what its OpenAPI document says: Schemathesis asks a real one, of real collections."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from retriever.documents import Document
from retriever.encoder import Encoder
from retriever.root import Root
from service.settings import Settings
from tests.models import tiny_cross_encoder, two_tower_model
from tests.service.conftest import NOTES, axes, png, serving

CONFIG = Path(__file__).with_name("schemathesis.toml")
OPENAPI = Path(__file__).parents[2] / "docs" / "openapi.json"
KEY = "a-key-of-this-test"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with a reranker over text, vectors, pictures, and `spare`, which may be emptied and dropped."""
    folder = tmp_path_factory.mktemp("contract")
    root = Root(folder / "data")
    with root.create("notes", encoder=Encoder.load("multilingual")) as notes:
        notes.upsert(NOTES)
    for name in ("axes", "spare"):
        with root.create(name, encoder=None) as collection:
            collection.upsert(axes())
    with root.create("photos", encoder=Encoder.load(str(two_tower_model(folder / "towers")))) as photos:
        photos.upsert([Document(id=color, picture=png(color, 16), modality="image") for color in ("red", "blue")])
    reranker = str(tiny_cross_encoder(folder / "reranker"))
    with serving(Settings(root=root.path, reranker=reranker, api_key=KEY, max_timeout=5)) as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        yield client


@pytest.mark.parametrize(
    ("phases", "examples", "least"),
    [
        ("examples,coverage,fuzzing", 5, 1_000),
        pytest.param("examples,coverage,fuzzing,stateful", 150, 2_000, marks=pytest.mark.soak),
    ],
)
def test_every_answer_is_as_the_document_says_and_none_is_unforeseen(
    service: httpx.Client, tmp_path: Path, phases: str, examples: int, least: int
):
    file = tmp_path / "report.json"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
        *(f"{service.base_url}/openapi.json", "--phases", phases, "--max-examples", str(examples)),
        *("--generation-deterministic", "--report-json-path", str(file), "--no-color"),
    ]
    variables = {**os.environ, "POLYSEEK_API_KEY": KEY}
    ended = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr
    found = json.loads(file.read_text())
    operations = len(json.loads(OPENAPI.read_text())["paths"])
    assert found["operations"]["tested"] >= operations
    assert found["test_cases"]["generated"] >= least
    # Its collections still answer: it was the interface that was tested, not an empty root.
    assert service.post("/v1/collections/notes/search", json={"text": "water"}).json()["hits"]
