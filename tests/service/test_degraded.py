"""What other processes put on the disk under a service: no request fails, answers stay right, and /readyz says it."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from retriever import upkeep
from retriever.files import locked
from retriever.root import Root
from service import readiness
from service.settings import Settings
from tests.retriever.small import index_matters, spelled
from tests.retriever.test_taking_up import DAMAGE, LEXICAL
from tests.service.conftest import ready, serving
from tests.service.held import until
from tests.service.many import COUNT, VECTORS, document, made, nearest, optimize


class Asked:
    """Searches of the collection `many`, each checked against what is known by hand."""

    def __init__(self, root: Root, client: httpx.Client) -> None:
        self.root = root
        self.client = client
        self.count = COUNT

    def put(self) -> None:
        """One document more, by another handle."""
        with self.root.open("many", background=False) as other:
            assert other.upsert([document(self.count)]).added == 1
        self.count += 1

    def right(self) -> dict[str, object]:
        """The plan of a dense search, which like a lexical one is answered rightly."""
        number = self.count - 1
        dense = self.search({"vector": VECTORS[number].tolist(), "k": 3, "explain": True})
        assert [hit["id"] for hit in dense["hits"]] == nearest(number, self.count)
        lexical = self.search({"text": spelled(number), "mode": "lexical", "k": 3})
        assert [hit["id"] for hit in lexical["hits"]] == [f"d{number}"]
        return dense["plan"]

    def search(self, body: dict[str, object]) -> dict:
        answer = self.client.post("/v1/collections/many/search", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def state(self) -> dict:
        answer = self.client.get("/readyz")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def degraded(self) -> str:
        self.right()
        return self.state()["degraded"].get("many", "")


@pytest.fixture
def many(tmp_path, monkeypatch) -> Iterator[tuple[Root, Asked]]:
    index_matters(monkeypatch.setattr)
    monkeypatch.setattr(upkeep, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0.0)
    root = made(tmp_path)
    with serving(Settings(root=root.path)) as client:
        assert ready(client).json()["status"] == "ready"
        yield root, Asked(root, client)


@contextmanager
def nobody_builds(root: Root) -> Iterator[None]:
    with locked(root.path / "many" / "indexer.lock", wait=True):
        yield


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_rebuild_is_not_taken_up_and_readyz_says_why_until_it_is_mended(many, damage):
    root, asked = many
    file, harm, part = DAMAGE[damage]
    assert asked.right()["kind"] == "ivf"
    optimize(root)
    harm(file(root.path / "many"))
    with nobody_builds(root):
        until(lambda: part in asked.degraded())
        assert asked.state()["status"] == "degraded"
        assert str(root.path) not in asked.client.get("/readyz").text
        asked.put()
        plan = asked.right()
        assert (plan["kind"], plan["exact"]) == ("ivf", False)
        assert 'polyseek_collection_degraded{collection="many"} 1.0' in asked.client.get("/metrics").text
    until(lambda: asked.degraded() == "")
    assert asked.state()["status"] == "ready"
    assert asked.right()["kind"] == "ivf"


@pytest.mark.parametrize("damage", LEXICAL)
def test_a_damaged_lexical_index_fails_no_request_and_is_made_again(many, damage, caplog):
    root, asked = many
    optimize(root)
    LEXICAL[damage](root.path / "many")
    for _ in range(5):
        asked.put()
        asked.right()
    until(lambda: asked.right() and "the lexical index can't be used" in caplog.text)
    until(lambda: asked.degraded() == "")
    with root.open("many", background=False) as collection:
        assert collection.verify().ok


def test_a_service_that_starts_on_damage_compares_every_vector_and_says_so(many):
    root, asked = many
    folder = root.path / "many"
    file, harm, part = DAMAGE["half of the FAISS file"]
    asked.put()
    harmed = file(folder)
    content = harmed.read_bytes()
    harmed.unlink()  # what is mapped stays whole
    harmed.write_bytes(content)
    harm(harmed)
    with nobody_builds(root), serving(Settings(root=root.path)) as client:
        second = Asked(root, client)
        second.count = asked.count
        assert part in ready(client).json()["degraded"]["many"]
        assert second.right()["exact"] is True
    asked.right()
