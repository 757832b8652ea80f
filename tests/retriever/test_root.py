"""A folder of collections: names, aliases, dropping."""

import threading
import time

import pytest

from retriever import Root, SearchRequest
from retriever.errors import CollectionExists, CollectionReplaced, InvalidName, UnknownCollection
from tests.retriever.conftest import document


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "root")
    root.create("one", encoder=None).close()
    root.create("two", encoder=None).close()
    return root


def test_collections_are_listed_by_name(root):
    assert root.names() == ["one", "two"]
    assert Root(root.path / "absent").names() == []


def test_an_alias_stands_for_a_collection_and_can_be_moved(root):
    root.set_alias("live", "one")
    assert root.open("live").name == "one"
    root.set_alias("live", "two")
    assert root.open("live").name == "two"
    assert root.aliases() == {"live": "two"}


def test_an_alias_of_an_alias_stands_for_the_collection(root):
    root.set_alias("live", "one")
    root.set_alias("newest", "live")
    assert root.aliases()["newest"] == "one"


def test_names_are_taken_once(root):
    root.set_alias("live", "one")
    with pytest.raises(CollectionExists):
        root.create("one", encoder=None)
    with pytest.raises(CollectionExists, match="live is an alias of one"):
        root.create("live", encoder=None)
    with pytest.raises(CollectionExists, match="two is a collection"):
        root.set_alias("two", "one")


def test_a_dropped_collection_is_gone_with_its_aliases_and_files(root):
    root.set_alias("live", "one")
    root.drop("one")
    assert root.names() == ["two"]
    assert root.aliases() == {}
    assert [path.name for path in root.path.iterdir() if path.is_dir()] == ["two"]
    with pytest.raises(UnknownCollection, match="no collection 'one'") as error:
        root.open("one")
    assert error.value.hint == "there are: two"


def test_a_dropped_name_can_be_made_again(root):
    with root.open("one") as collection:
        collection.upsert([document("a")])
    root.drop("one")
    with root.create("one", encoder=None) as again:
        assert again.count() == 0


def test_whoever_has_a_dropped_collection_open_is_told_so_and_harms_nothing_of_its_name(root):
    with root.open("one") as old, root.open("one") as other:
        old.upsert([document("a")])
        assert other.search(SearchRequest(vector=[1.0, 0.0, 0.0])).hits
        root.drop("one")
        calls = (
            lambda: old.upsert([document("b")]),
            lambda: other.search(SearchRequest(vector=[1.0, 0.0, 0.0])),
            lambda: old.delete(["a"]),
            old.optimize,
            old.settle,
            old.verify,
            old.info,
        )
        for name in ("dropped", "made again"):
            for call in calls:
                with pytest.raises(CollectionReplaced, match="one was replaced or dropped while it was open"):
                    call()
            if name == "dropped":
                root.create("one", encoder=None).close()
                with root.open("one") as again:
                    again.upsert([document("new"), document("newer", vector=(0.0, 1.0, 0.0))])
    with root.open("one") as again:
        assert set(again.ids()) == {"new", "newer"}
        assert again.search(SearchRequest(vector=[0.0, 1.0, 0.0])).hits[0].id == "newer"
        assert again.verify().ok


def test_a_collection_is_dropped_while_others_search_and_write(root):
    stop, failures = threading.Event(), []

    def work(number):
        while not stop.is_set():
            try:
                with root.open("one") as collection:
                    while not stop.is_set():
                        if number:
                            collection.search(SearchRequest(vector=[1.0, 0.0, 0.0]))
                        else:
                            collection.upsert([document(f"d{number}") for number in range(20)])
            except (CollectionReplaced, UnknownCollection):
                continue
            except Exception as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            root.drop("one")
            root.create("one", encoder=None).close()
            time.sleep(0.1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    with root.open("one") as collection:
        assert collection.count() in {0, 20}
        assert collection.verify().ok
    assert sorted(path.name for path in root.path.iterdir() if path.is_dir()) == ["one", "two"]


def test_a_damaged_collection_can_be_dropped(root):
    (root.path / "one" / "collection.sqlite").write_bytes(b"not a database " * 100)
    root.drop("one")
    assert root.names() == ["two"]


def test_an_alias_can_be_removed_but_not_dropped(root):
    root.set_alias("live", "one")
    with pytest.raises(InvalidName, match="live is an alias of one"):
        root.drop("live")
    root.remove_alias("live")
    with pytest.raises(UnknownCollection):
        root.open("live")
    with pytest.raises(UnknownCollection):
        root.remove_alias("live")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../one", "a/b", "a\\b", "/etc", ".hidden", "a" * 65, "a\n", "ü", "a b"]
)
def test_a_name_that_could_leave_the_root_is_refused(root, name):
    for call in (
        root.open,
        root.drop,
        root.exists,
        lambda n: root.create(n, encoder=None),
        lambda n: root.set_alias(n, "one"),
    ):
        with pytest.raises(InvalidName, match="not a name for a collection"):
            call(name)


def test_a_link_to_a_folder_outside_is_no_collection(root, tmp_path):
    outside = Root(tmp_path / "outside")
    outside.create("secret", encoder=None).close()
    (root.path / "link").symlink_to(outside.path / "secret")
    with pytest.raises(UnknownCollection):
        root.open("link")
    assert "link" not in root.names()
