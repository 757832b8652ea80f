"""The store: its file's identity, its checks at opening, backups beside writers."""

import os
import shutil
import stat
import threading

import apsw
import numpy as np
import pytest

from retriever.errors import (
    CollectionReplaced,
    CorruptCollection,
    PolyseekError,
    StorageFailed,
    UnsupportedFormat,
)
from retriever.store import FILE_NAME, Store
from retriever.witness import witness_path
from tests.retriever.test_store_faults import DIMENSION, SETTINGS, State, contents, problems, put, queries

PUT = put(*range(20), year=2000)
STATE = PUT.state(State())


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "c"
    path.mkdir()
    return path


@pytest.fixture
def store(folder):
    made = Store.create(folder / FILE_NAME, SETTINGS)
    PUT.write(made)
    yield made
    made.close()


def damage(path, offset, value=b"\xa5"):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(value)


# -- checks at opening


def test_a_closed_store_is_its_file_alone(store, folder):
    store.close()
    assert (folder / f"{FILE_NAME}-wal").stat().st_size == 0
    (folder / f"{FILE_NAME}-wal").unlink()
    (folder / f"{FILE_NAME}-shm").unlink()
    assert contents(Store.open(folder / FILE_NAME)) == STATE


def test_every_page_has_a_checksum_also_after_compacting_and_in_a_backup(store, folder, tmp_path):
    store.compact()
    store.backup(tmp_path / "backup.sqlite")
    store.close()
    for path in (folder / FILE_NAME, tmp_path / "backup.sqlite"):
        for page in np.fromfile(path, dtype="<u4").reshape(-1, 1024).tolist():
            first = second = 0
            for place in range(0, 1022, 2):
                first = (first + page[place] + second) % 2**32
                second = (second + page[place + 1] + first) % 2**32
            assert [first, second] == page[1022:]


def test_a_changed_byte_is_an_error_that_names_the_file(store, folder):
    store.close()
    damage(folder / FILE_NAME, 8192 + 2000)
    with pytest.raises(CorruptCollection, match="differs from its checksum") as error:
        contents(Store.open(folder / FILE_NAME))
    assert f"{folder.name}/{FILE_NAME}" in str(error.value)
    assert "snapshot" in error.value.hint


def test_a_header_that_denies_the_checksums_is_refused(store, folder):
    store.close()
    damage(folder / FILE_NAME, 20, b"\x00")
    with pytest.raises(CorruptCollection, match="denies the checksums"):
        Store.open(folder / FILE_NAME)


def test_a_cut_file_is_refused_though_the_log_holds_newer_pages(store, folder, tmp_path):
    store.compact()
    put(0, year=2001).write(store)
    shutil.copytree(folder, tmp_path / "killed")
    path = tmp_path / "killed" / FILE_NAME
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CorruptCollection, match=r"1 of its \d+ pages are cut off"):
        Store.open(path)


def test_a_log_that_lost_a_commit_is_refused_until_one_agrees(store, folder, tmp_path):
    put(20, year=2001).write(store)
    shutil.copytree(folder, tmp_path / "killed")
    path = tmp_path / "killed" / FILE_NAME
    log = path.with_name(f"{FILE_NAME}-wal")
    os.truncate(log, log.stat().st_size - 1)
    with pytest.raises(CorruptCollection, match="ends at generation 1, but 2 was committed") as error:
        Store.open(path)
    assert f"delete {path.parent.name}/{witness_path(path).name}" in error.value.hint
    witness_path(path).unlink()
    assert contents(Store.open(path)) == STATE


def test_what_is_no_collection_or_of_another_format_is_refused(folder):
    path = folder / FILE_NAME
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE t (x)")
    with pytest.raises(CorruptCollection, match="not a collection"):
        Store.open(path)
    connection.execute("PRAGMA application_id = 0x504F4C59; PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(UnsupportedFormat, match="has format 1, this release reads format 2"):
        Store.open(path)


def test_a_file_that_is_not_there_or_a_folder_is_an_error(folder):
    with pytest.raises(StorageFailed, match="No such file"):
        Store.open(folder / FILE_NAME)
    (folder / FILE_NAME).mkdir()
    with pytest.raises(StorageFailed, match="can't be opened"):
        Store.open(folder / FILE_NAME)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_is_an_error(store, folder):
    store.close()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    (folder / FILE_NAME).chmod(stat.S_IRUSR)
    with pytest.raises(StorageFailed, match="can't be opened or written"):
        put(1, year=2001).write(Store.open(folder / FILE_NAME))
    folder.chmod(stat.S_IRWXU)


# -- identity


def test_a_store_whose_folder_is_replaced_says_so_and_leaves_the_new_one_alone(store, folder, tmp_path):
    with store.exclusive():
        folder.rename(tmp_path / "old")
    with pytest.raises(CollectionReplaced, match="c was replaced or dropped while it was open"):
        contents(store)
    folder.mkdir()
    new = Store.create(folder / FILE_NAME, SETTINGS)
    put(1, year=2001).write(new)
    for use in (contents, put(2, year=2002).write, Store.compact, lambda store: store.backup(tmp_path / "b")):
        with pytest.raises(CollectionReplaced):
            use(store)
    store.close()
    assert (folder / f"{FILE_NAME}-wal").stat().st_size > 0
    shutil.copytree(folder, tmp_path / "killed")
    assert contents(Store.open(tmp_path / "killed" / FILE_NAME)) == put(1, year=2001).state(State())
    assert contents(Store.open(tmp_path / "old" / FILE_NAME)) == STATE
    new.close()


def test_nobody_writes_while_the_store_is_held(store, folder):
    other = Store.open(folder / FILE_NAME)
    written = threading.Event()

    def write():
        put(1, year=2001).write(other)
        written.set()

    thread = threading.Thread(target=write)
    with store.exclusive():
        thread.start()
        assert contents(other) == STATE
        assert not written.wait(0.1)
    thread.join()
    assert contents(store) == put(1, year=2001).state(STATE)
    other.close()


def in_a_fork(action):
    """How the action ended there: 7 for PolyseekError, 0 for success, 1 for anything else."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except PolyseekError:
            os._exit(7)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_fork_is_refused_the_store_and_to_open_it_again(store, folder):
    assert in_a_fork(lambda: contents(store)) == 7
    assert in_a_fork(lambda: Store.open(folder / FILE_NAME)) == 7
    assert in_a_fork(store.close) == 0
    put(5, year=2005).write(store)
    assert contents(store).documents["5"][1] == 2005


def test_what_was_closed_before_a_fork_can_be_opened_in_it(store, folder):
    store.close()
    assert in_a_fork(lambda: Store.open(folder / FILE_NAME).close()) == 0


# -- backup, queries


def test_a_backup_is_one_whole_generation_while_writers_go_on(store, folder, tmp_path):
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            # Every document at once: a copy of two generations would hold two years.
            put(*range(20), year=3000 + number, length=300).write(store)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for number in range(5):
            path = tmp_path / f"{number}.sqlite"
            store.backup(path)
            copy = Store.open(path)
            assert problems(copy) == []
            assert len({year for _, year, _ in contents(copy).documents.values()}) == 1
            copy.close()
    finally:
        stop.set()
        thread.join()


def test_a_backup_replaces_nothing(store, tmp_path):
    (tmp_path / "b").write_text("mine")
    with pytest.raises(FileExistsError):
        store.backup(tmp_path / "b")
    assert (tmp_path / "b").read_text() == "mine"


def test_a_backup_of_a_damaged_store_is_an_error_and_no_file(store, folder, tmp_path):
    store.close()
    damage(folder / FILE_NAME, 8192 + 2000)
    with pytest.raises(CorruptCollection, match="checksum"):
        Store.open(folder / FILE_NAME).backup(tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_queries_are_kept_in_order_and_count_no_generation(store):
    texts = ["b", None, "a"]
    queries(*texts).write(store)
    with store.reading() as reader:
        assert reader.generation == 1
        stored, vectors = reader.queries()
    assert stored == texts
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, DIMENSION)
    with pytest.raises(ValueError, match="1001 queries"):
        queries(*["q"] * 1001).write(store)
