"""What the service answers is what its OpenAPI document says, whatever it is asked.

Schemathesis makes the requests from the document as it is served: examples, values at the borders of every schema,
random ones, and chains of calls. schemathesis.toml says what it knows beyond that. What it finds fails the test, with
the request; a finding becomes a test of its own where what it found is tested.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from retriever.encoder import Encoder
from retriever.root import Root
from service.settings import Settings
from tests.models import tiny_cross_encoder, two_tower_model
from tests.service.conftest import NOTES, axes, png, ready, serving

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
KEY = "contract-key-of-the-test"
PICTURES = [
    {"id": "red", "image": png(size=40)},
    {"id": "blue", "image": png("blue", size=40), "captions": {"en": ["a blue picture"]}},
    {"id": "words", "text": "a red picture"},
]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """A service that can do all there is: collections of texts, of ready-made vectors and of pictures, a reranker."""
    root = Root(tmp_path / "data")
    towers = two_tower_model(tmp_path / "towers")
    for name, encoder, documents in (
        ("notes", Encoder.load("multilingual"), NOTES),
        ("axes", None, axes()),
        ("photos", Encoder.load(towers), PICTURES),
    ):
        with root.create(name, encoder=encoder) as collection:
            collection.upsert(documents)
    settings = Settings(
        root=root.path,
        api_key=KEY,
        reranker=str(tiny_cross_encoder(tmp_path / "cross")),
        # A search may wait as long for a generation that never comes.
        max_timeout=1.0,
    )
    with serving(settings) as client:
        client.headers["Authorization"] = f"Bearer {KEY}"
        ready(client)
        yield client


def asked(client: httpx.Client, folder: Path, *options: str) -> int:
    """How many cases Schemathesis had for the service, each answered as the document says."""
    report = folder / "report.json"
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIGURATION, "--no-color", "run"]
    done = subprocess.run(
        [*command, f"{client.base_url}/openapi.json", "--report", "json", "--report-json-path", report, *options],
        cwd=folder,
        env={**os.environ, "POLYSEEK_API_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.stdout.write(f"{done.stdout}\n{table(client)}\n")
    cases: int = json.loads(report.read_text())["test_cases"]["generated"]
    return cases


def table(client: httpx.Client) -> str:
    """How often each operation was asked, and how it answered, by the service's own count."""
    counts: dict[str, Counter[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            # What isn't an operation is asked as well, to be refused.
            if sample.name == "polyseek_requests_total" and sample.labels["status"] not in ("401", "405"):
                operation = f"{sample.labels['method']} {sample.labels['route']}"
                counts.setdefault(operation, Counter())[sample.labels["status"]] += int(sample.value)
    return "\n".join(
        f"{sum(statuses.values()):6} {operation}: {dict(sorted(statuses.items()))}"
        for operation, statuses in sorted(counts.items())
    )


def test_answers_are_as_the_interface_describes_them(client: httpx.Client, tmp_path: Path):
    assert asked(client, tmp_path, "--max-examples", "3", "--generation-deterministic") >= 500


@pytest.mark.soak
def test_thousands_of_answers_are_as_the_interface_describes_them(client: httpx.Client, tmp_path: Path):
    """Other requests each time; the output of a failure names the seed."""
    assert asked(client, tmp_path, "--max-examples", "300") >= 2_000
