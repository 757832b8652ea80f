"""From sources to a collection: what a build counts, leaves out, refuses; and that it goes on where it stopped."""

import numpy as np
import orjson
import pytest

from retriever import Root
from retriever.build import BuildOptions, build
from retriever.errors import CollectionBusy, InvalidRequest, SourceError
from retriever.files import locked
from tests.retriever.conftest import document


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path / "root")


def write_vectors(folder, lines, dimension=3):
    """A folder of ready-made vectors; `lines` are records, or bytes to stand as they are."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(3)
    np.save(folder / "vectors.npy", rng.standard_normal((len(lines), dimension)).astype(np.float32))
    written = [line if isinstance(line, bytes) else orjson.dumps(line) for line in lines]
    (folder / "documents.jsonl").write_bytes(b"\n".join(written) + b"\n")
    return folder


def records(count, **members):
    return [{"id": f"d{number}", "text": f"kivo {number}", "language": "en", **members} for number in range(count)]


READY = BuildOptions(encoder="none")


def test_a_build_makes_the_collection_and_a_second_one_changes_nothing(root, tmp_path):
    source = write_vectors(tmp_path / "s", records(600))
    first = build(root, "c", [source], READY)
    again = build(root, "c", [source], READY)
    assert (first.added, first.documents, first.read) == (600, 600, 600)
    assert (again.added, again.updated, again.unchanged, again.generation) == (0, 0, 600, first.generation)


def test_progress_is_told_batch_by_batch(root, tmp_path, monkeypatch):
    monkeypatch.setattr("retriever.build.BATCH_DOCUMENTS", 16)
    seen = []
    build(root, "c", [write_vectors(tmp_path / "s", records(600))], READY, lambda summary: seen.append(summary.read))
    assert len(seen) == 3
    assert seen[-1] == 600


def test_documents_that_bring_their_vectors_are_written_in_larger_batches(root, monkeypatch):
    monkeypatch.setattr("retriever.build.BATCH_DOCUMENTS", 2)
    seen = []
    documents = [document(f"d{number}") for number in range(70)]
    build(root, "c", [documents], READY, lambda summary: seen.append(summary.read))
    assert seen == [32, 64, 70]


def test_documents_can_come_from_the_program_itself(root):
    summary = build(root, "c", [(document(f"d{number}") for number in range(5)), [document("e")]], READY)
    assert summary.added == 6


def test_prune_removes_what_the_sources_no_longer_hold(root):
    build(root, "c", [[document(f"d{number}") for number in range(5)]], READY)
    kept = [document("d1"), document("d3")]
    assert build(root, "c", [kept], READY).removed == 0
    assert build(root, "c", [kept], BuildOptions(encoder="none", prune=True)).removed == 3
    with root.open("c") as collection:
        assert list(collection.ids()) == ["d1", "d3"]


def test_an_id_given_twice_is_counted_and_its_last_form_counts(root, monkeypatch):
    monkeypatch.setattr("retriever.build.BATCH_DOCUMENTS", 16)
    forms = [document("a", text="first"), *[document(f"d{n}") for n in range(300)], document("a", text="last")]
    summary = build(root, "c", [forms], READY)
    assert summary.repeated == 1
    with root.open("c") as collection:
        assert collection.get("a").text == "last"


def test_bad_records_are_left_out_and_written_with_file_line_and_reason(root, tmp_path):
    lines = [*records(1), b"{not json", {"text": "no id"}, {"id": "empty"}, {"id": "far", "text": "x", "n": [1]}]
    source = write_vectors(tmp_path / "s", lines)
    summary = build(root, "c", [source], BuildOptions(encoder="none", rejects=tmp_path / "rejects.jsonl"))
    rejects = [orjson.loads(line) for line in (tmp_path / "rejects.jsonl").read_bytes().splitlines()]
    assert summary.rejected == len(rejects) >= 3
    assert summary.added == len(lines) - len(rejects)
    assert all(reject["file"].endswith("documents.jsonl") for reject in rejects)
    assert [reject["line"] for reject in rejects][:2] == [2, 3]
    assert "no _id or id" in rejects[1]["reason"]


def test_what_only_the_collection_can_refuse_is_written_with_its_line_too(root, tmp_path):
    build(root, "c", [write_vectors(tmp_path / "s", records(2))], READY)
    other = write_vectors(tmp_path / "other", [{"id": "x", "text": "kivo"}], dimension=2)
    options = BuildOptions(encoder="none", rejects=tmp_path / "rejects.jsonl")
    with pytest.raises(SourceError, match="nothing could be read"):
        build(root, "c", [other], options)
    [reject] = [orjson.loads(line) for line in (tmp_path / "rejects.jsonl").read_bytes().splitlines()]
    assert (reject["id"], reject["line"]) == ("x", 1)
    assert "2 dimensions, the collection's have 3" in reject["reason"]


def test_strict_stops_at_the_first_bad_record_and_keeps_what_was_stored(root, tmp_path, monkeypatch):
    monkeypatch.setattr("retriever.build.BATCH_DOCUMENTS", 16)
    source = write_vectors(tmp_path / "s", [*records(300), b"{not json", *records(1)])
    with pytest.raises(SourceError, match=r"documents\.jsonl, line 301"):
        build(root, "c", [source], BuildOptions(encoder="none", strict=True))
    with root.open("c") as collection:
        assert collection.count() == 256
        assert collection.verify().ok


def test_sources_of_which_nothing_can_be_read_fail(root, tmp_path):
    source = write_vectors(tmp_path / "s", [b"{", b"}"])
    with pytest.raises(SourceError, match="nothing could be read: 2 bad records"):
        build(root, "c", [source], READY)
    with pytest.raises(SourceError, match="empty"):
        build(root, "d", [[]], READY)


def test_a_path_that_is_not_there_leaves_nothing_behind(root, tmp_path):
    with pytest.raises(SourceError):
        build(root, "c", [tmp_path / "absent"], READY)
    assert root.names() == []


def test_a_second_build_at_the_same_time_is_refused_naming_the_first(root, tmp_path):
    build(root, "c", [[document("a")]], READY)
    with (
        locked(root.path / "c" / "build.lock", wait=True),
        pytest.raises(CollectionBusy, match=r"process \d+ is building or migrating c"),
    ):
        build(root, "c", [[document("b")]], READY)


def test_options_that_contradict_the_collection_are_refused(root):
    build(root, "c", [[document("a")]], BuildOptions(encoder="none", passages="none"))
    with pytest.raises(InvalidRequest, match="c was created with passages none, not split"):
        build(root, "c", [[document("b")]], BuildOptions(passages="split"))
    assert build(root, "c", [[document("b")]], BuildOptions(passages="none")).added == 1


def test_the_language_of_a_collection_is_the_same_in_every_form_of_its_tag(root):
    build(root, "c", [[document("a", language=None)]], BuildOptions(encoder="none", language="zh-TW"))
    assert build(root, "c", [[document("b", language=None)]], BuildOptions(language="zh-Hant")).added == 1
    assert build(root, "c", [[document("c", language=None)]], BuildOptions(language="zh-TW")).added == 1
    with pytest.raises(InvalidRequest, match="was created with language zh-Hant, not de"):
        build(root, "c", [[document("d")]], BuildOptions(language="de"))


def test_a_recall_of_nothing_is_refused_not_replaced(root):
    with pytest.raises(InvalidRequest, match="recall is above 0"):
        build(root, "c", [[document("a")]], BuildOptions(encoder="none", recall=0.0))
    assert root.names() == []


def test_a_document_without_a_vector_is_rejected_where_there_is_no_encoder(root, tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_bytes(orjson.dumps({"id": "a", "text": "kivo"}) + b"\n")
    with pytest.raises(SourceError, match="nothing could be read"):
        build(root, "c", [path], READY)
