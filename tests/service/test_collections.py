import httpx
import numpy as np

from retriever.documents import Document
from retriever.root import Root
from service.settings import Settings
from tests.service.conftest import axes, serving


def test_a_collection_is_created_described_and_dropped(client: httpx.Client):
    made = client.put("/v1/collections/fresh", json={"encoder": "none", "passages": "none", "language": "de"})
    assert made.status_code == 201
    assert made.json()["passages"] == "none"
    described = client.get("/v1/collections/fresh").json()
    assert (described["name"], described["documents"], described["generation"]) == ("fresh", 0, 0)
    assert client.delete("/v1/collections/fresh").status_code == 204
    assert client.get("/v1/collections/fresh").json()["code"] == "unknown_collection"


def test_the_list_has_every_collection_and_alias(client: httpx.Client, root: Root):
    root.set_alias("current", "axes")
    listed = client.get("/v1/collections").json()
    assert [(each["name"], each["documents"]) for each in listed["collections"]] == [("axes", 4)]
    assert listed["aliases"] == {"current": "axes"}


def test_a_collection_that_cannot_be_opened_is_listed_with_its_problem(client: httpx.Client, root: Root):
    with root.create("broken", encoder=None):
        pass
    for file in (root.path / "broken").glob("collection.sqlite*"):
        file.write_bytes(b"not a database " * 1000)
    listed = {each["name"]: each for each in client.get("/v1/collections").json()["collections"]}
    assert listed["axes"]["documents"] == 4
    assert listed["broken"]["problem"]["code"] == "corrupt_collection"


def test_an_alias_stands_for_its_collection(client: httpx.Client, root: Root):
    root.set_alias("current", "axes")
    assert client.post("/v1/collections/current/search", json={"text": "bridge"}).json()["collection"] == "axes"


def test_creating_a_collection_twice_is_a_conflict(client: httpx.Client):
    answer = client.put("/v1/collections/axes", json={"encoder": "none"})
    assert (answer.status_code, answer.json()["code"]) == (409, "collection_exists")


def test_a_name_that_could_leave_the_root_is_refused(client: httpx.Client):
    for name in ("..%2Fetc", "%2E%2E", "a%2Fb", "%00"):
        answer = client.put(f"/v1/collections/{name}", json={"encoder": "none"})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_name"), name


def test_an_encoder_that_does_not_exist_is_a_problem_with_a_hint(root: Root):
    with serving(Settings(root=root.path, encoders=["./no-such-folder"])) as client:
        answer = client.put("/v1/collections/fresh", json={"encoder": "./no-such-folder"})
        assert answer.json()["code"] == "model_unavailable"
        assert answer.json()["hint"]


def test_a_collection_that_another_process_made_anew_is_noticed(client: httpx.Client, root: Root):
    def found() -> list[str]:
        hits = client.post("/v1/collections/axes/search", json={"text": "shared"}).json()["hits"]
        return [hit["id"] for hit in hits]

    assert len(found()) == 4
    root.drop("axes")
    assert client.post("/v1/collections/axes/search", json={"text": "shared"}).status_code == 404
    with root.create("axes", encoder=None) as collection:
        collection.upsert(axes(2))
    assert found() == ["axis0", "axis1"]


def test_writes_of_another_process_are_found(client: httpx.Client, root: Root):
    assert client.post("/v1/collections/axes/search", json={"text": "eagle"}).json()["hits"] == []
    with root.open("axes") as other:
        other.upsert([Document(id="new", text="eagle", language="en", vector=np.ones(4))])
    hits = client.post("/v1/collections/axes/search", json={"text": "eagle"}).json()["hits"]
    assert [hit["id"] for hit in hits] == ["new"]
