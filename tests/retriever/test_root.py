"""A folder of collections: names, aliases, dropping."""

import pytest

from retriever import Root
from retriever.errors import CollectionExists, InvalidName, UnknownCollection
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
