"""What is exported is built again into the same collection."""

import gzip
import io

import numpy as np
import orjson
import pytest
from PIL import Image

from retriever import Document, Root, SearchRequest
from retriever.build import BuildOptions, build
from retriever.errors import OutputError
from retriever.readers import read
from tests.models import tiny_text_model, two_tower_model
from tests.retriever.conftest import document


def png(color):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), color).save(buffer, "PNG")
    return buffer.getvalue()


DOCUMENTS = [
    Document(id="a", title="Tea", text="Green tea is brewed with water that does not boil.", metadata={"year": 2024}),
    Document(id="b", text="Der Mond umkreist die Erde in etwa siebenundzwanzig Tagen.", language="de"),
    Document(
        id="c", text="words", metadata={"tags": ("x", "y"), "none": (), "a.b": 1.5, "ok": True, "modality": "loud"}
    ),
    Document(id="d", captions={"de": ("Katze", "Kätzchen"), "en": ("cat",)}, title="A cat"),
    Document(id="e#f", text="def f():\n    return 1", modality="code", metadata={"start_line": 3}),
    Document(id="f 日本", text="雨が降っている\u2028ので\x00、傘を持って行きます。", metadata={"title": "inner"}),
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(tiny_text_model(tmp_path_factory.mktemp("models") / "text"))


@pytest.fixture
def root(tmp_path, encoder):
    root = Root(tmp_path / "root")
    with root.create("c", encoder=root.load_encoder(encoder)) as collection:
        collection.upsert(DOCUMENTS)
    return root


def stored(collection):
    return [collection.get(identifier) for identifier in collection.ids()]


def hits(collection):
    results = collection.search_many([SearchRequest(text=text, k=10) for text in ("tea", "Katze", "def f", "傘")])
    return [[(hit.id, hit.score, hit.unit) for hit in result.hits] for result in results]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst"])
def test_an_export_is_built_into_the_same_collection(root, encoder, tmp_path, name):
    with root.open("c") as collection:
        summary = collection.export(tmp_path / name)
    assert (summary.documents, summary.generation) == (len(DOCUMENTS), 1)
    build(root, "again", [tmp_path / name], BuildOptions(encoder=encoder, strict=True))
    with root.open("c") as first, root.open("again") as again:
        assert stored(again) == stored(first)
        assert [document.identified for document in stored(again)] == [True, False, True, True, True, True]
        assert hits(again) == hits(first)


def test_an_export_built_into_its_own_collection_changes_nothing(root, tmp_path):
    with root.open("c") as collection:
        collection.export(tmp_path / "out.jsonl")
    summary = build(root, "c", [tmp_path / "out.jsonl"], BuildOptions(prune=True))
    assert (summary.unchanged, summary.added, summary.updated, summary.removed) == (len(DOCUMENTS), 0, 0, 0)


def test_ready_made_vectors_are_exported_as_the_folder_that_they_are_built_from(tmp_path):
    rng = np.random.default_rng(3)
    root = Root(tmp_path / "root")
    documents = [document(f"d{number}", rng.standard_normal(5), text=f"text {number}") for number in range(2300)]
    with root.create("c", encoder=None) as collection:
        collection.upsert(documents)
        # Its unit gets a newer key; its row is in its document's place all the same.
        collection.upsert([document("d7", rng.standard_normal(5), text="changed")])
        summary = collection.export(tmp_path / "out", vectors=True)
    assert (summary.documents, summary.vectors) == (2300, 2300)
    assert np.load(tmp_path / "out" / "vectors.npy").shape == (2300, 5)
    again = build(root, "c", [tmp_path / "out"], BuildOptions(encoder="none"))
    assert again.unchanged == 2300
    read_back = list(read(tmp_path / "out"))
    np.testing.assert_array_equal(read_back[8].vector, documents[8].vector)
    assert read_back[7].text == "changed"


def test_vectors_of_an_encoder_are_exported_a_row_a_unit(root, tmp_path):
    with root.open("c") as collection:
        collection.export(tmp_path / "out", vectors=True)
        vectors = np.load(tmp_path / "out" / "vectors.npy")
        units = [orjson.loads(line) for line in (tmp_path / "out" / "units.jsonl").read_bytes().splitlines()]
        assert vectors.dtype == np.float32
        assert len(units) == len(vectors) == collection.info().units
        katze = {"id": "d", "kind": "caption", "language": "de", "start": 0, "end": 8, "ordinal": 1}
        found = collection.search(SearchRequest(text="Kätzchen", mode="dense")).hits[0]
        query = collection.encoder.encode_queries(["Kätzchen"]).vectors[0]
        assert found.score == pytest.approx(float(vectors[units.index(katze)] @ query), abs=1e-6)


def test_pictures_without_a_file_are_written_beside_and_found_by_a_build(tmp_path):
    encoder = str(two_tower_model(tmp_path / "towers"))
    root = Root(tmp_path / "root")
    with root.create("c", encoder=root.load_encoder(encoder)) as collection:
        collection.upsert([Document(id="red", picture=png("red")), Document(id="blue", text="b", picture=png("blue"))])
        summary = collection.export(tmp_path / "out.jsonl.gz")
        assert (summary.pictures, summary.pictures_missing) == (2, 0)
        before = [hit.id for hit in collection.search(SearchRequest(image=png("red"))).hits]
    with gzip.open(tmp_path / "out.jsonl.gz") as lines:
        records = [orjson.loads(line) for line in lines]
    assert all((tmp_path / record["image"]).read_bytes().startswith(b"\x89PNG") for record in records)
    assert {record["image"].split("/")[0] for record in records} == {"out.pictures"}
    build(root, "again", [tmp_path / "out.jsonl.gz"], BuildOptions(encoder=encoder, strict=True))
    with root.open("again") as again:
        assert [hit.id for hit in again.search(SearchRequest(image=png("red"))).hits] == before


def test_pictures_that_are_files_keep_their_paths_and_missing_ones_are_counted(tmp_path):
    encoder = str(two_tower_model(tmp_path / "towers"))
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "red.png").write_bytes(png("red"))
    root = Root(tmp_path / "root")
    build(root, "c", [tmp_path / "photos"], BuildOptions(encoder=encoder))
    with root.open("c") as collection:
        assert collection.export(tmp_path / "photos" / "out.jsonl").pictures_missing == 0
        assert collection.export(tmp_path / "out.jsonl").pictures_missing == 1
    again = build(root, "c", [tmp_path / "photos" / "out.jsonl"], BuildOptions(strict=True))
    assert (again.unchanged, again.updated) == (1, 0)


def test_an_empty_collection_is_exported(tmp_path):
    root = Root(tmp_path / "root")
    with root.create("c", encoder=None) as collection:
        assert collection.export(tmp_path / "out.jsonl").documents == 0
        collection.export(tmp_path / "out", vectors=True)
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    assert np.load(tmp_path / "out" / "vectors.npy").shape == (0, 0)


def test_where_an_export_cannot_be_written_is_said_and_nothing_is_left_behind(root, tmp_path):
    (tmp_path / "taken").mkdir()
    with root.open("c") as collection:
        with pytest.raises(OutputError, match="taken exists already"):
            collection.export(tmp_path / "taken", vectors=True)
        with pytest.raises(OutputError, match="taken is a folder"):
            collection.export(tmp_path / "taken")
        with pytest.raises(OutputError, match="No such file or directory"):
            collection.export(tmp_path / "absent" / "out.jsonl")
    assert {path.name for path in tmp_path.iterdir()} == {"root", "taken"}
