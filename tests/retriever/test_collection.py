"""Creating, writing, reading and looking after a collection."""

import shutil
import threading

import numpy as np
import pytest

from retriever import Collection, Document, SearchRequest
from retriever.errors import (
    CollectionExists,
    CorruptCollection,
    InvalidRequest,
    UnknownCollection,
    UnknownDocument,
    UnsupportedFormat,
)
from retriever.lexical import LexicalIndex
from tests.retriever.conftest import document


def nearest_ids(collection, vector=(1.0, 0.0, 0.0), **members):
    return [hit.id for hit in collection.search(SearchRequest(vector=list(vector)), **members).hits]


def test_what_was_put_is_returned(collection):
    put = document("a", title="T", text="some text", metadata={"year": 2024, "tags": ["x", "y"], "open": True})
    collection.upsert([put])
    got = collection.get("a")
    assert (got.title, got.text, got.language) == ("T", "some text", "en")
    assert got.metadata == {"year": 2024, "tags": ("x", "y"), "open": True}


def test_a_put_replaces_the_whole_document(collection):
    collection.upsert([document("a", metadata={"year": 1, "old": True})])
    collection.upsert([document("a", metadata={"year": 2})])
    assert collection.get("a").metadata == {"year": 2}
    assert collection.count({"year": 1}) == 0


def test_the_same_put_again_changes_nothing(collection):
    first = collection.upsert([document("a"), document("b")])
    again = collection.upsert([document("a"), document("b")])
    assert (first.added, first.generation) == (2, 1)
    assert (again.added, again.updated, again.unchanged, again.generation) == (0, 0, 2, 1)


def test_of_an_id_given_twice_in_one_batch_the_last_counts(collection):
    result = collection.upsert([document("a", text="first"), document("a", text="last")])
    assert result.added == 1
    assert collection.get("a").text == "last"


def test_a_change_of_metadata_alone_keeps_units_and_vectors(collection):
    collection.upsert([document("a", metadata={"year": 1})])
    with collection._store.reading() as reader:
        before = reader.unit_keys().tolist()
    collection.upsert([document("a", metadata={"year": 2})])
    with collection._store.reading() as reader:
        assert reader.unit_keys().tolist() == before
    assert nearest_ids(collection, filter={"year": 2}) == ["a"]


def test_bad_members_of_a_batch_are_named_and_the_rest_is_stored(collection):
    result = collection.upsert(
        [{"id": "a", "text": "no vector"}, document("b"), {"text": "no id"}, document("c", vector=(1.0, 2.0))]
    )
    assert result.added == 1
    assert [(bad.index, bad.id) for bad in result.rejected] == [(2, None), (0, "a"), (3, "c")]
    assert "no vector" in result.rejected[1].reason
    assert "2 dimensions, the collection's have 3" in result.rejected[2].reason


def test_deleted_documents_are_gone_in_every_mode(collection):
    collection.upsert([document("a"), document("b"), document("c")])
    assert collection.delete(ids=["a", "absent"]).deleted == 1
    assert nearest_ids(collection) == ["b", "c"]
    assert [hit.id for hit in collection.search("kivo", mode="lexical").hits] == ["b", "c"]
    with pytest.raises(UnknownDocument, match="no document 'a'"):
        collection.get("a")


def test_delete_by_filter_takes_what_the_filter_finds(collection):
    collection.upsert([document(name, metadata={"year": year}) for name, year in (("a", 1), ("b", 2), ("c", 3))])
    assert collection.delete(filter={"year": {"gte": 2}}).deleted == 2
    assert list(collection.ids()) == ["a"]


def test_delete_needs_ids_or_a_filter_and_not_both(collection):
    for arguments in ({}, {"ids": ["a"], "filter": {"year": 1}}):
        with pytest.raises(InvalidRequest, match="either ids or a filter"):
            collection.delete(**arguments)


def test_scroll_walks_every_document_once_in_the_order_of_putting(collection):
    names = [f"d{number}" for number in range(7)]
    collection.upsert([document(name) for name in names])
    seen, cursor = [], None
    while True:
        page = collection.scroll(cursor, limit=3)
        seen += [one.id for one in page.documents]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == names


def test_scroll_with_a_filter_pages_over_what_passes(collection):
    collection.upsert([document(f"d{number}", metadata={"even": number % 2 == 0}) for number in range(6)])
    first = collection.scroll(limit=2, filter={"even": True})
    second = collection.scroll(first.cursor, limit=2, filter={"even": True})
    assert [one.id for one in first.documents + second.documents] == ["d0", "d2", "d4"]
    assert second.cursor is None


@pytest.mark.parametrize("cursor", ["x", "-1", "٣", "9" * 30])
def test_a_cursor_that_is_none_of_ours_is_refused(collection, cursor):
    with pytest.raises(InvalidRequest, match="not a cursor"):
        collection.scroll(cursor)


def test_a_write_by_another_process_is_in_the_next_search(tmp_path, collection):
    collection.upsert([document("a")])
    assert nearest_ids(collection) == ["a"]
    with Collection.open(tmp_path / "c") as other:
        other.upsert([document("b")])
    assert nearest_ids(collection) == ["a", "b"]
    assert {hit.id for hit in collection.search("kivo", mode="lexical").hits} == {"a", "b"}


def test_the_first_vectors_are_found_by_who_searched_the_empty_collection(tmp_path, caplog):
    with Collection.create(tmp_path / "one", encoder=None) as one:
        assert nearest_ids(one) == []
        with Collection.open(tmp_path / "one", background=False) as other:
            other.upsert([document("a")])
        assert nearest_ids(one) == ["a"]
        one.settle()
        assert (one.troubles, caplog.text) == ([], "")


def test_writers_side_by_side_lose_nothing(tmp_path, collection):
    def write(name):
        with Collection.open(tmp_path / "c") as mine:
            for number in range(10):
                mine.upsert([document(f"{name}{number}"), document("shared", metadata={"by": f"{name}{number}"})])

    threads = [threading.Thread(target=write, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert collection.count() == 31
    assert collection.generation == 30
    assert collection.verify().ok


def test_searches_during_writes_see_whole_generations(tmp_path, collection):
    """Each batch replaces both documents by a pair that shares its number: a torn read would mix numbers."""
    collection.upsert([document("a", metadata={"n": 0}), document("b", metadata={"n": 0})])
    stop, torn = threading.Event(), []

    def read():
        with Collection.open(tmp_path / "c") as mine:
            while not stop.is_set():
                hits = mine.search(SearchRequest(vector=[1.0, 0.0, 0.0])).hits
                if len({hit.document.metadata["n"] for hit in hits}) != 1 or len(hits) != 2:
                    torn.append(hits)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 40):
        collection.upsert([document(name, text=f"kivo {number}", metadata={"n": number}) for name in "ab"])
    stop.set()
    for thread in threads:
        thread.join()
    assert torn == []


def test_every_lost_or_damaged_derived_file_comes_back(tmp_path, collection):
    collection.upsert([document(f"d{number}", text=f"kivo word{number}") for number in range(50)])
    collection.optimize()
    collection.close()
    folder = tmp_path / "c"
    files = [path for part in ("dense", "lexical") for path in (folder / part).iterdir() if path.is_file()]
    assert len(files) > 5
    for damaged in files:
        for damage in (
            damaged.unlink,
            lambda path=damaged: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        ):
            if not damaged.exists():
                continue  # a rebuilt index has files of other names
            damage()
            with Collection.open(folder) as opened:
                assert len(nearest_ids(opened, k=60)) == 50
                assert opened.search("word7", mode="lexical").hits[0].id == "d7"
                assert opened.verify().ok


def test_verify_names_a_vector_that_is_missing_or_wrong(tmp_path, collection):
    collection.upsert([document("a"), document("b"), document("c")])
    with collection._store.writing() as writer:
        writer._connection.execute("DELETE FROM vectors WHERE unit = 1")
        writer._connection.execute("UPDATE vectors SET vector = x'00' WHERE unit = 2")
    report = collection.verify()
    assert not report.ok
    assert report.problems == ["1 units have no vector", "1 vectors don't have 3 dimensions"]


def test_a_damaged_store_is_an_error_that_says_so(tmp_path, collection):
    collection.upsert([document("a")])
    collection.close()
    path = tmp_path / "c" / "collection.sqlite"
    path.write_bytes(b"not a database, but long enough to be read as one " * 100)
    with pytest.raises(CorruptCollection, match="damaged"):
        Collection.open(tmp_path / "c")


def test_an_unknown_format_is_refused_with_what_to_do(tmp_path, collection):
    with collection._store.writing() as writer:
        writer._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UnsupportedFormat, match="format 99") as error:
        Collection.open(tmp_path / "c")
    assert "install the polyseek release" in error.value.hint


def test_creating_over_something_is_refused(tmp_path, collection):
    with pytest.raises(CollectionExists):
        Collection.create(tmp_path / "c", encoder=None)


def test_opening_nothing_is_an_error(tmp_path):
    with pytest.raises(UnknownCollection):
        Collection.open(tmp_path / "absent")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "tree"}, "kind is one of auto, flat, rabitq, hnsw, ivf or an index-factory string of FAISS"),
        ({"kind": "IDMap,Flat"}, "maps ids"),
        ({"kind": "IVF16,RFlat"}, "kind"),
        ({"kind": ""}, "kind"),
        ({"recall": 1.5}, "recall is above 0 and at most 1"),
        ({"language": "not a tag"}, "language"),
        ({"passages": "some"}, "passages is one of split, none"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, settings, message):
    with pytest.raises(InvalidRequest, match=message):
        Collection.create(tmp_path / "new", encoder=None, **settings)
    assert not (tmp_path / "new").exists()


def test_vectors_are_stored_as_they_came_without_an_encoder(collection):
    collection.upsert([document("a", vector=(3.0, 0.0, 0.0)), document("b", vector=(0.0, 0.5, 0.0))])
    [hit, other] = collection.search(SearchRequest(vector=[1.0, 1.0, 0.0])).hits
    assert (hit.id, hit.score, other.score) == ("a", 3.0, 0.5)


def test_a_document_as_a_mapping_is_a_document(collection):
    result = collection.upsert([{"id": "a", "text": "no vector"}])
    assert result.rejected[0].reason.startswith("it has no vector")


def test_info_counts_what_is_there(collection):
    collection.upsert([document("a", metadata={"year": 1}), document("b", language="zh-TW")])
    info = collection.info()
    assert (info.documents, info.units, info.generation, info.dimension) == (2, 2, 1, 3)
    assert info.languages == {"en": 1, "zh-Hant": 1}
    assert info.fields == ["year"]
    assert info.bytes > 0


def test_optimize_forgets_removed_units_everywhere(tmp_path, collection):
    collection.upsert([document(f"d{number}", vector=np.eye(3)[number % 3]) for number in range(30)])
    collection.delete(ids=[f"d{number}" for number in range(20)])
    collection.optimize()
    assert len(nearest_ids(collection, k=30)) == 10
    collection.close()
    rows = np.fromfile(next((tmp_path / "c" / "dense").glob("*.keys")), dtype="<i8")
    assert len(rows) == len(LexicalIndex.open(tmp_path / "c" / "lexical").snapshot().keys()) == 10


def test_a_collection_copied_as_files_answers_the_same(tmp_path, collection):
    collection.upsert([document(f"d{number}", vector=np.eye(3)[number % 3]) for number in range(9)])
    expected = nearest_ids(collection)
    collection.close()
    shutil.copytree(tmp_path / "c", tmp_path / "copy")
    with Collection.open(tmp_path / "copy") as copy:
        assert nearest_ids(copy) == expected


def test_an_older_store_put_back_is_refused_until_the_loss_is_accepted(tmp_path, collection):
    collection.upsert([document("a", vector=(1.0, 0.0, 0.0))])
    collection.close()
    shutil.copytree(tmp_path / "c", tmp_path / "backup")
    with Collection.open(tmp_path / "c") as newer:
        newer.upsert([document("b", text="trelk", vector=(0.0, 1.0, 0.0))])
        newer.optimize()
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / "c" / f"collection.sqlite{suffix}").unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup" / "collection.sqlite", tmp_path / "c" / "collection.sqlite")
    with pytest.raises(CorruptCollection, match="ends at generation") as refused:
        Collection.open(tmp_path / "c")
    assert "delete" in refused.value.hint
    (tmp_path / "c" / "collection.sqlite-generation").unlink()
    with Collection.open(tmp_path / "c", background=False) as restored:
        # Before any search: it gets the key that the lost document had.
        restored.upsert([document("c", text="orvad", vector=(0.0, 0.0, 1.0))])
        assert nearest_ids(restored, (0.0, 0.0, 1.0), k=1) == ["c"]
        assert [hit.id for hit in restored.search("orvad", mode="lexical").hits] == ["c"]
        assert [hit.id for hit in restored.search("trelk", mode="lexical").hits] == []
        assert restored.verify().problems == []


def test_what_was_removed_before_it_was_taken_in_takes_nothing_else_with_it(tmp_path):
    with Collection.create(tmp_path / "c", encoder=None, background=False) as collection:
        collection.upsert([document("a", vector=(1.0, 0.0, 0.0))])
        collection.settle()
        collection.upsert([document("b", vector=(0.0, 1.0, 0.0)), document("c", vector=(0.0, 0.0, 1.0))])
        collection.delete(ids=["b"])
        collection.settle()
        assert nearest_ids(collection, (0.0, 0.0, 1.0)) == ["c", "a"]
    with Collection.open(tmp_path / "c", background=False) as collection:
        assert nearest_ids(collection, (0.0, 0.0, 1.0)) == ["c", "a"]
        assert collection.verify().problems == []


def test_documents_equal_after_a_round_trip_through_a_record():
    one = Document(id="a", title="t", text="x", captions={"de": ["eins"]}, metadata={"n": 1, "l": ["a"]})
    assert Document.from_record(one.to_record()) == one
