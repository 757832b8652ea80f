"""The store on disks that fail: what was answered is there, nothing is there by half, and damage is an error.

Faults are tried at some points in the tests and at every point in the soak. What fails prints how to repeat it.
"""

import itertools
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import apsw
import numpy as np
import pytest

from retriever import Collection, Document, SearchRequest
from retriever.errors import StorageFailed, StorageFull
from retriever.records import Settings
from retriever.store import FILE_NAME, Store
from retriever.upsert import upsert
from retriever.witness import remember
from tests.retriever.faults import FaultyDisk, power_cut

# An operation refused where SQLite goes on regardless reaches Python as an exception that nobody can catch.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

DIMENSION = 16
SETTINGS = Settings(
    encoder=None, fingerprint=None, dimension=DIMENSION, similarity="dot", towers=(), kind="flat", passages="split",
    recall=0.9, language=None,
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """All that a store holds: id -> (text, year, vector)."""

    generation: int = 0
    recall: float = SETTINGS.recall
    documents: Mapping[str, tuple] = field(default_factory=dict)
    queries: tuple = ()

    def with_documents(self, documents):
        if documents == self.documents:
            return self
        return replace(self, generation=self.generation + 1, documents=documents)


@dataclass(frozen=True)
class Step:
    """One transaction on a store, and what it makes of the oracle's state."""

    name: str
    write: Callable[[Store], None]
    state: Callable[[State], State]


def vector(number, year):
    return np.random.default_rng([number, year]).standard_normal(DIMENSION, dtype=np.float32)


def put(*numbers, year, length=20):
    texts = {number: f"number {number} " * length for number in numbers}
    documents = [
        Document(id=str(n), text=text, language="en", metadata={"year": year}, vector=vector(n, year))
        for n, text in texts.items()
    ]
    after = {str(n): (text, year, vector(n, year).tobytes()) for n, text in texts.items()}
    return Step(
        f"put {numbers} {year}",
        lambda store: upsert(store, lambda: None, documents) and None,
        lambda state: state.with_documents({**state.documents, **after}),
    )


def delete(*numbers):
    ids = [str(number) for number in numbers]

    def write(store):
        with store.writing() as writer:
            writer.remove(list(writer.document_keys(ids).values()))

    def state(before):
        return before.with_documents({id_: row for id_, row in before.documents.items() if id_ not in ids})

    return Step(f"delete {numbers}", write, state)


def recall(value):
    def write(store):
        with store.writing() as writer:
            writer.change_settings(replace(writer.settings(), recall=value))

    return Step("settings", write, lambda state: replace(state, generation=state.generation + 1, recall=value))


def queries(*texts):
    vectors = np.ones((len(texts), DIMENSION), np.float32)

    def write(store):
        with store.writing() as writer:
            writer.set_queries(texts, vectors)

    return Step("queries", write, lambda state: replace(state, queries=texts))


def forget_removals(store):
    with store.writing() as writer:
        writer.forget_removals(writer.generation)


COMPACT = Step("compact", Store.compact, lambda state: state)
FORGET = Step("forget removals", forget_removals, lambda state: state)
STEPS = (
    put(*range(12), year=2000),
    put(3, 12, 13, year=2001, length=2000),
    queries("one", None),
    delete(0, 1, 2, 12),
    recall(0.95),
    COMPACT,
    put(4, 14, year=2002),
    FORGET,
    queries("two"),
    put(*range(15, 25), year=2003, length=500),
    delete(*range(4, 9)),
    COMPACT,
    recall(0.99),
    put(9, 30, year=2004),
)


def contents(store):
    """What the store holds, as the oracle has it."""
    with store.reading() as reader:
        keys = [key for key, _ in reader.ids(after=0, limit=1000)]
        units = {key: units[0].key for key, units in reader.units_of(keys).items()}
        vectors = reader.existing_vectors(list(units.values()))
        documents = {
            document.id: (document.text, document.metadata["year"], vectors[units[key]].tobytes())
            for key, document in reader.documents(keys).items()
        }
        return State(reader.generation, reader.settings().recall, documents, tuple(reader.queries()[0]))


def problems(store):
    with store.reading() as reader:
        return [*reader.integrity(), *reader.vector_problems(DIMENSION)]


def check(folder, allowed):
    """The store is sound, holds one of the allowed states, and goes on from there."""
    store = Store.open(folder / FILE_NAME)
    try:
        assert problems(store) == []
        state = contents(store)
        assert state in allowed
        more = put(77, year=2077)
        more.write(store)
        assert contents(store) == more.state(state)
        assert problems(store) == []
    finally:
        store.close()


# -- power cuts


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """What a disk was told during all steps, and the state after each with the length of the log by then."""
    path = tmp_path_factory.mktemp("recorded") / FILE_NAME
    with FaultyDisk() as disk:
        store = Store.create(path, SETTINGS)
        answered = [(len(disk.log), State())]
        for step in STEPS:
            step.write(store)
            answered.append((len(disk.log), step.state(answered[-1][1])))
        assert contents(store) == answered[-1][1]
        store.close()
    return disk.log, answered


def survives_power_cut(recorded, folder, point, keep, seed):
    log, answered = recorded
    stored = [state for length, state in answered if length <= point]
    allowed = {id(state): state for state in (stored[-1], *(state for _, state in answered[len(stored) :][:1]))}
    folder.mkdir()
    for path, content in power_cut(log[:point], random.Random(seed), keep=keep).items():
        (folder / Path(path).name).write_bytes(content)
    remember(folder / FILE_NAME, stored[-1].generation)
    try:
        check(folder, list(allowed.values()))
    except BaseException as error:
        error.add_note(f"power cut after operation {point} of {len(log)}, keep={keep}, seed={seed}")
        raise
    shutil.rmtree(folder)


def sync_points(recorded):
    """Just before and just after each sync, once the store was created."""
    log, answered = recorded
    syncs = [place for place, operation in enumerate(log) if operation.kind == "sync" and place >= answered[0][0]]
    return sorted({point for place in syncs for point in (place, place + 1)})


@pytest.mark.parametrize("keep", [0.0, 0.5, 1.0])
def test_a_power_cut_around_a_sync_loses_nothing_answered(recorded, tmp_path, keep):
    for point in sync_points(recorded):
        survives_power_cut(recorded, tmp_path / "cut", point, keep, seed=point)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_a_power_cut_after_any_operation_loses_nothing_answered(recorded, tmp_path, seed):
    log, answered = recorded
    for point in range(answered[0][0], len(log) + 1):
        for keep in (0.1, 0.5, 0.9):
            survives_power_cut(recorded, tmp_path / "cut", point, keep, seed=1000 * seed + point)


# -- refused operations


@dataclass
class Player:
    """Plays the steps on a disk that refuses some operations, and holds the oracle's state beside."""

    store: Store
    state: State
    uncertain: list[State] = field(default_factory=list)

    def play(self, step):
        try:
            step.write(self.store)
        except StorageFailed:
            # It isn't there now; a commit that the disk got but couldn't sync may be there after a kill.
            self.uncertain.append(step.state(self.state))
        else:
            after = step.state(self.state)
            self.uncertain = self.uncertain if after == self.state else []
            self.state = after
        assert contents(self.store) == self.state


def survives_refusal(template, folder, **fault):
    """Whether the fault was reached. What was answered is there: at once, after a kill, and when the disk is well."""
    shutil.copytree(template, folder / "live")
    with FaultyDisk() as disk:
        player = Player(Store.open(folder / "live" / FILE_NAME), State())
        disk.fail(**fault)
        try:
            for step in STEPS:
                player.play(step)
            reached = disk.failed
            disk.heal()
            shutil.copytree(folder / "live", folder / "killed")
            check(folder / "killed", [player.state, *player.uncertain])
            player.play(put(88, year=2088))
            player.store.close()
            check(folder / "live", [player.state])
        except BaseException as error:
            error.add_note(f"refused: {fault}")
            raise
    shutil.rmtree(folder / "live")
    shutil.rmtree(folder / "killed")
    return reached


FAULTS = [
    {"for_ever": for_ever, "error": error} for for_ever in (False, True) for error in (apsw.IOError, apsw.FullError)
]


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("empty")
    Store.create(folder / FILE_NAME, SETTINGS).close()
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_a_refused_write_or_sync_is_an_error_that_loses_nothing(empty, tmp_path, fault):
    for at in random.Random(7).sample(range(1, 300), 6):
        survives_refusal(empty, tmp_path, at=at, **fault)


@pytest.mark.soak
@pytest.mark.parametrize("fault", FAULTS)
def test_every_refused_write_or_sync_is_an_error_that_loses_nothing(empty, tmp_path, fault):
    at = 1
    while survives_refusal(empty, tmp_path, at=at, **fault):
        at += 1
    assert at > 100


@pytest.mark.parametrize("fault", FAULTS)
def test_a_store_that_cannot_be_made_is_an_error(tmp_path, fault):
    at, reached = 1, True
    while reached:
        folder = tmp_path / str(at)
        folder.mkdir()
        with FaultyDisk() as disk:
            disk.fail(at=at, **fault)
            try:
                Store.create(folder / FILE_NAME, SETTINGS).close()
            except StorageFailed:
                assert disk.failed
            reached = disk.failed
        at += 1
    assert at > 20


# -- damage

# Opens and reads damaged copies in a process of its own, which a crash would end. Argv: template, work, seed, tries.
DAMAGE = """
import random, shutil, sys
from pathlib import Path
from retriever.errors import PolyseekError
from retriever.store import FILE_NAME, Store
from tests.retriever.faults import damaged
from tests.retriever.test_store_faults import contents, problems, put

template, work = Path(sys.argv[1]), Path(sys.argv[2])
rng = random.Random(int(sys.argv[3]))
shutil.copytree(template, work)
store = Store.open(work / FILE_NAME)
expected = contents(store)
store.close()
files = [path.name for path in sorted(template.iterdir()) if path.stat().st_size]
outcomes = {"refused": 0, "reported": 0, "right": 0}
for number in range(int(sys.argv[4])):
    shutil.rmtree(work)
    shutil.copytree(template, work)
    path = work / files[number % len(files)]
    size = path.stat().st_size
    # A third of the tries near the start, where the headers are.
    offset = rng.randrange(min(size, 120) if rng.random() < 0.3 else size)
    damage = damaged(path, offset, rng, cut=rng.random() < 0.3)
    print(damage, flush=True)
    try:
        store = Store.open(work / FILE_NAME)
        try:
            assert contents(store) == expected, "a wrong answer"
            if problems(store):
                outcomes["reported"] += 1
                continue
            put(77, year=2077).write(store)
            assert contents(store) == put(77, year=2077).state(expected), "a wrong answer after a write"
            assert (found := problems(store)) == [], f"after a write: {found}"
        finally:
            store.close()
    except PolyseekError:
        outcomes["refused"] += 1
    else:
        outcomes["right"] += 1
print(outcomes)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The files as a kill leaves them: some of the content only in the write-ahead log."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "live").mkdir()
    store = Store.create(folder / "live" / FILE_NAME, SETTINGS)
    for step in STEPS:
        step.write(store)
    shutil.copytree(folder / "live", folder / "copy")
    store.close()
    return folder / "copy", folder / "live"


def try_damage(template, work, seed, tries):
    command = [sys.executable, "-c", DAMAGE, template, work, str(seed), str(tries)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    lines = run.stdout.splitlines()
    assert run.returncode == 0, f"seed={seed}, try {len(lines)}: {lines[-1:]}\n{run.stderr}"


@pytest.mark.parametrize("closed", [False, True])
def test_damage_anywhere_is_an_error_or_changes_nothing(killed, tmp_path, closed):
    try_damage(killed[closed], tmp_path / "work", seed=1, tries=120)


@pytest.mark.soak
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("seed", range(100, 110))
def test_damage_at_thousands_of_places_is_an_error_or_changes_nothing(killed, tmp_path, closed, seed):
    try_damage(killed[closed], tmp_path / "work", seed=seed, tries=1000)


# -- full disk


def fill(write):
    """Write until the disk is full, then less and less, until nothing more fits; the numbers written."""
    written, length = [], 50_000
    for number in itertools.count():
        try:
            write(number, length)
        except StorageFull:
            length //= 4
            if not length:
                return written
        else:
            written.append(number)
    raise AssertionError


def test_a_full_disk_is_an_error_and_all_that_was_stored_stays(small_disk, tmp_path):
    (small_disk / "c").mkdir()
    store = Store.create(small_disk / "c" / FILE_NAME, SETTINGS)
    states = [State()]

    def write(number, length):
        step = put(number, year=2000, length=length)
        step.write(store)
        states.append(step.state(states[-1]))

    fill(write)
    assert len(states) > 5
    with pytest.raises(StorageFull):
        store.compact()
    with pytest.raises(StorageFull, match="backup"):
        store.backup(small_disk / "backup")
    assert not (small_disk / "backup").exists()
    assert contents(store) == states[-1]
    store.close()
    store = Store.open(small_disk / "c" / FILE_NAME)
    assert contents(store) == states[-1]
    assert problems(store) == []
    (small_disk / "ballast").unlink()
    write(9999, 1000)
    store.compact()
    assert contents(store) == states[-1]
    store.close()


def test_a_collection_on_a_full_disk_answers_and_goes_on_when_there_is_space(small_disk):
    collection = Collection.create(small_disk / "c", encoder=None)

    def unit(number):
        return vector(number, 0) / np.linalg.norm(vector(number, 0))

    def write(number, length):
        document = Document(
            id=str(number), text=f"word{number}", language="en", metadata={"padding": "x" * length}, vector=unit(number)
        )
        collection.upsert([document])

    def check_answers(least):
        ids = set(collection.ids())
        assert ids >= {str(number) for number in least}
        for number in least[::7]:
            assert collection.search(SearchRequest(vector=unit(number).tolist(), k=1)).hits[0].id == str(number)
            assert collection.search(f"word{number}", mode="lexical", k=1).hits[0].id == str(number)

    # So that there are derived indices, for which there is no space later.
    write(8888, 100)
    collection.settle()
    written = fill(write)
    assert len(written) > 5
    check_answers(written)
    with pytest.raises(StorageFull):
        collection.optimize()
    check_answers(written)
    collection.close()
    (small_disk / "ballast").unlink()
    collection = Collection.open(small_disk / "c")
    check_answers(written)
    write(9999, 100)
    collection.optimize()
    check_answers([*written, 9999])
    assert collection.verify().ok
    collection.close()
