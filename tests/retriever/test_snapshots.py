"""A collection in one file: taken while it is written to, restored elsewhere, refused where it is damaged."""

import io
import random
import tarfile
import threading

import numpy as np
import orjson
import pytest

from retriever import Root, SearchRequest
from retriever.errors import CollectionExists, InvalidName, InvalidSnapshot, OutputError, UnsupportedFormat
from tests.retriever.conftest import document
from tests.retriever.oracle import WORDS

DIMENSION = 8


def documents(start, count):
    rng = np.random.default_rng(start)
    return [
        document(
            f"d{number}",
            rng.standard_normal(DIMENSION),
            text=f"{WORDS[number % len(WORDS)]} number{number}",
            metadata={"year": 2000 + number % 7, "tags": ("a", f"t{number % 3}")},
        )
        for number in range(start, start + count)
    ]


def answers(collection):
    rng = np.random.default_rng(1)
    requests = [SearchRequest(vector=rng.standard_normal(DIMENSION).tolist(), k=20) for _ in range(5)]
    requests += [SearchRequest(text=word, mode="lexical", k=50) for word in WORDS]
    requests += [SearchRequest(vector=[1.0] * DIMENSION, filter={"year": 2003}, k=50)]
    results = collection.search_many(requests)
    return [[(hit.id, hit.score, hit.document.metadata) for hit in result.hits] for result in results]


@pytest.fixture
def root(tmp_path):
    root = Root(tmp_path / "root")
    with root.create("c", encoder=None) as collection:
        collection.upsert(documents(0, 1200))
        collection.delete([f"d{number}" for number in range(0, 60, 3)])
        collection.upsert(documents(1200, 30))
        collection.settle()
    return root


@pytest.fixture
def snapshot(root, tmp_path):
    with root.open("c") as collection:
        collection.snapshot(tmp_path / "c.snapshot")
    return tmp_path / "c.snapshot"


def test_a_restored_collection_answers_as_the_first_one_under_another_root_and_name(root, snapshot, tmp_path):
    elsewhere = Root(tmp_path / "elsewhere" / "deeper")
    manifest = elsewhere.restore(snapshot, "again")
    with root.open("c") as first, elsewhere.open("again") as again:
        assert (manifest.name, manifest.documents, manifest.generation) == ("c", first.count(), first.generation)
        assert again.generation == first.generation
        assert answers(again) == answers(first)
        assert list(again.ids()) == list(first.ids())
        assert again.verify().ok
        assert again.get("d7") == first.get("d7")


def test_the_derived_indices_come_along_and_are_not_made_again(root, snapshot, tmp_path):
    with root.open("c") as collection:
        answers(collection)
        collection.snapshot(snapshot)
    root.restore(snapshot, "again")
    before = {path.name: path.stat().st_ino for path in (root.path / "again").rglob("*") if path.is_file()}
    assert {path.split("/")[0] for path in members(snapshot)} >= {"dense", "lexical"}
    with root.open("again") as collection:
        answers(collection)
    after = {path.name: path.stat().st_ino for path in (root.path / "again").rglob("*") if path.is_file()}
    assert {name: inode for name, inode in after.items() if name in before} == before


def members(path):
    with tarfile.open(path) as archive:
        return archive.getnames()


def test_a_restored_collection_goes_on_by_itself(root, snapshot):
    root.restore(snapshot, "again")
    with root.open("again") as again, root.open("c") as first:
        before = answers(first)
        again.upsert(documents(5000, 3))
        again.delete(["d1"])
        assert again.verify().ok
        assert answers(first) == before


def test_any_tar_lists_a_snapshot_and_it_begins_with_its_manifest(snapshot):
    with tarfile.open(snapshot) as archive:
        names = archive.getnames()
        manifest = orjson.loads(archive.extractfile("manifest.json").read())
    assert names[:2] == ["manifest.json", "collection.sqlite"]
    assert names[1:] == [member["name"] for member in manifest["members"]]
    assert manifest["polyseek_snapshot"] == 1
    assert not [name for name in names if name.endswith(("-wal", "-shm", ".lock"))]


def test_a_snapshot_taken_while_writers_go_on_is_one_whole_generation(root, tmp_path):
    stop = threading.Event()
    collection = root.open("c")

    def write():
        number = 2000
        while not stop.is_set():
            # Both documents of a batch, or none.
            collection.upsert([*documents(number, 1), document(f"twin{number}", np.ones(DIMENSION))])
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(4):
            collection.snapshot(tmp_path / f"{number}.snapshot")
    finally:
        stop.set()
        writer.join()
    generations = []
    for number in range(4):
        manifest = root.restore(tmp_path / f"{number}.snapshot", f"restored{number}")
        generations.append(manifest.generation)
        with root.open(f"restored{number}") as restored:
            ids = set(restored.ids())
            assert {identifier[4:] for identifier in ids if identifier.startswith("twin")} == {
                identifier[1:] for identifier in ids if identifier.startswith("d") and int(identifier[1:]) >= 2000
            }
            assert restored.verify().ok
            assert restored.generation == manifest.generation
    assert generations == sorted(generations)
    collection.close()


def test_pages_that_are_still_in_the_log_are_whole_in_a_snapshot(tmp_path):
    root = Root(tmp_path)
    with root.create("c", encoder=None) as collection:
        # More than SQLite's page cache holds, and the newest of it not yet in the file.
        for year in (1, 2):
            for start in range(0, 900, 300):
                collection.upsert(
                    [
                        document(f"d{n}", text=f"kivo{n} " * 1000, metadata={"year": year})
                        for n in range(start, start + 300)
                    ]
                )
        assert (root.path / "c" / "collection.sqlite-wal").stat().st_size > 1_000_000
        collection.snapshot(tmp_path / "c.snapshot")
    root.restore(tmp_path / "c.snapshot", "again")
    with root.open("again") as again:
        assert again.verify().ok
        assert again.count({"year": 2}) == 900


def test_a_snapshot_of_an_empty_collection_is_restored(tmp_path):
    root = Root(tmp_path)
    with root.create("empty", encoder=None) as collection:
        collection.snapshot(tmp_path / "empty.snapshot")
    root.restore(tmp_path / "empty.snapshot", "again")
    with root.open("again") as again:
        assert again.count() == 0
        again.upsert([document("a")])
        assert again.search(SearchRequest(vector=[1.0, 0.0, 0.0])).hits[0].id == "a"


def test_a_snapshot_replaces_the_one_before_and_leaves_nothing_else_behind(root, snapshot, tmp_path):
    with root.open("c") as collection:
        collection.upsert([document("new", np.ones(DIMENSION))])
        collection.snapshot(snapshot)
    assert {path.name for path in tmp_path.iterdir()} == {"root", "c.snapshot"}
    root.restore(snapshot, "again")
    with root.open("again") as again:
        assert again.get("new").id == "new"


def test_a_name_that_is_taken_is_refused_and_stays_as_it_was(root, snapshot):
    root.set_alias("live", "c")
    for name in ("c", "live"):
        with pytest.raises(CollectionExists):
            root.restore(snapshot, name)
    with pytest.raises(InvalidName):
        root.restore(snapshot, "../out")
    assert root.names() == ["c"]


def test_where_a_snapshot_cannot_be_written_is_said(root, tmp_path):
    with root.open("c") as collection:
        with pytest.raises(OutputError, match="is a folder"):
            collection.snapshot(tmp_path)
        with pytest.raises(OutputError, match="No such file or directory"):
            collection.snapshot(tmp_path / "absent" / "c.snapshot")


def repacked(snapshot, target, change):
    """A copy of a snapshot with other members: change takes and returns [(name, content)]."""
    with tarfile.open(snapshot) as archive:
        entries = [(entry.name, archive.extractfile(entry).read()) for entry in archive.getmembers()]
    with tarfile.open(target, "w") as archive:
        for name, content in change(entries):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return target


def with_manifest(entries, **changes):
    manifest = orjson.loads(entries[0][1])
    return [("manifest.json", orjson.dumps(manifest | changes)), *entries[1:]]


def renamed(entries, old, new):
    """A member under another name, in the manifest too."""
    manifest = orjson.loads(entries[0][1])
    for member in manifest["members"]:
        member["name"] = new if member["name"] == old else member["name"]
    return [
        ("manifest.json", orjson.dumps(manifest)),
        *((new if name == old else name, content) for name, content in entries[1:]),
    ]


REFUSED = {
    "of another format": lambda entries: with_manifest(entries, polyseek_snapshot=2),
    "without manifest": lambda entries: entries[1:],
    "without a member": lambda entries: entries[:-1],
    "with a member more": lambda entries: [*entries, ("more", b"x")],
    "with another order": lambda entries: [entries[0], entries[2], entries[1], *entries[3:]],
    "with another count": lambda entries: with_manifest(entries, documents=3),
    "with no list of members": lambda entries: with_manifest(entries, members=None),
    "with an absolute name": lambda entries: renamed(entries, entries[-1][0], "/tmp/out"),
    "with a name that leaves the folder": lambda entries: renamed(entries, entries[-1][0], "dense/../../out"),
    "with another content": lambda entries: [*entries[:2], (entries[2][0], b"x" * len(entries[2][1])), *entries[3:]],
}


@pytest.mark.parametrize("how", REFUSED)
def test_a_snapshot_that_is_not_whole_is_refused_and_leaves_nothing_behind(root, snapshot, tmp_path, how):
    bad = repacked(snapshot, tmp_path / "bad.snapshot", REFUSED[how])
    with pytest.raises(UnsupportedFormat if how == "of another format" else InvalidSnapshot, match="bad"):
        root.restore(bad, "again")
    assert sorted(path.name for path in root.path.iterdir()) == ["c"]


def test_what_is_no_snapshot_is_refused(root, tmp_path):
    (tmp_path / "text").write_text("not a tar, but long enough to be one" * 40)
    (tmp_path / "nothing").write_bytes(b"")
    for name in ("text", "nothing"):
        with pytest.raises(InvalidSnapshot, match=f"{name} is no snapshot"):
            root.restore(tmp_path / name, "again")
    with pytest.raises(InvalidSnapshot, match="No such file or directory"):
        root.restore(tmp_path / "absent", "again")
    with pytest.raises(InvalidSnapshot):
        root.restore(tmp_path, "again")


def damage_and_restore(root, snapshot, rng, tries):
    expected = None
    content = snapshot.read_bytes()
    bad = snapshot.with_name("bad.snapshot")
    for attempt in range(tries):
        damaged = bytearray(content)
        if rng.random() < 0.2:
            del damaged[rng.randrange(len(content)) :]
        else:
            damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        bad.write_bytes(damaged)
        try:
            root.restore(bad, f"again{attempt}")
        except (InvalidSnapshot, UnsupportedFormat):
            assert not root.exists(f"again{attempt}")
            continue
        # Padding of the tar, or a word of the manifest that nothing depends on.
        with root.open("c") as first, root.open(f"again{attempt}") as again:
            expected = expected or answers(first)
            assert answers(again) == expected
        root.drop(f"again{attempt}")


@pytest.mark.parametrize("seed", range(2))
def test_a_flipped_or_cut_byte_anywhere_is_refused_or_makes_no_difference(root, snapshot, seed):
    damage_and_restore(root, snapshot, random.Random(seed), 15)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_flipped_or_cut_bytes(root, snapshot, seed):
    damage_and_restore(root, snapshot, random.Random(seed), 100)
