"""The derived indices when their files are damaged: rebuilt or left aside, never believed.

Damage is tried at some places in the tests and at thousands in the soak. What fails prints how to repeat it.
"""

import contextlib
import errno
import itertools
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retriever import Collection
from retriever.errors import PolyseekError, StorageFailed
from retriever.store import FILE_NAME
from tests.retriever.faults import damaged
from tests.retriever.oracle import Oracle
from tests.retriever.refusals import Refusals
from tests.retriever.small import KINDS, assert_answers, delete, filled, index_matters, left_over, put, scores

# Tries damaged copies in a process of its own, which a crash would end. Argv: work, kind, seed, tries.
DAMAGE = """
import sys
from pathlib import Path
from tests.retriever.small import index_matters
from tests.retriever.test_derived_faults import try_each
index_matters()
for line in try_each(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])):
    print(line, flush=True)
"""
HANG_SECONDS = 1800


def derived_files(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(FILE_NAME) and path.stat().st_size
    )


def damage(folder, name, rng):
    """Flip, cut, empty or remove; says what was done."""
    path = folder / name
    what = rng.choices(["flip", "cut", "empty", "remove"], [12, 3, 1, 1])[0]
    if what == "remove":
        path.unlink()
        return f"{name} removed"
    offset = 0 if what == "empty" else rng.randrange(path.stat().st_size)
    return f"{name}: {damaged(path, offset, rng, cut=what != 'flip')}"


def try_each(work, kind, seed, tries):
    """Damage one file after the other, at random places, and see what is answered."""
    collection, oracle = filled(work / "template" / "c", kind)
    assert_answers(collection, oracle)
    expected = [scores(collection)]
    collection.close()
    # Built again, the lexical index has other statistics: those that are gone count no longer.
    shutil.copytree(work / "template", work / "rebuilt")
    shutil.rmtree(work / "rebuilt" / "c" / "lexical")
    with Collection.open(work / "rebuilt" / "c", background=False) as rebuilt:
        expected.append(scores(rebuilt))
    names = derived_files(work / "template" / "c")
    rng = random.Random(seed)
    rng.shuffle(names)
    outcomes = {"refused": 0, "right": 0}
    for number, name in zip(range(tries), itertools.cycle(names)):
        shutil.copytree(work / "template", work / "live")
        yield kind, seed, number, damage(work / "live" / "c", name, rng)
        outcomes[outcome(work / "live" / "c", oracle, expected, settled=number % 4 == 0)] += 1
        shutil.rmtree(work / "live")
    yield outcomes


def outcome(path, oracle, expected, *, settled):
    """Whether it was right or refused; any other outcome is an exception. settled: look after a settle too."""
    try:
        collection = Collection.open(path, background=False)
        assert_answers(collection, oracle)
        assert scores(collection) in expected, "other scores"
        if settled:
            assert (found := collection.verify().problems) == [], found
            collection.settle()
            assert_answers(collection, oracle)
            assert (found := collection.verify().problems) == [], found
            assert_answers(collection, oracle)
        collection.close()
    except PolyseekError:
        return "refused"
    return "right"


def try_damage(work, kind, seed, tries):
    command = [sys.executable, "-c", DAMAGE, work, kind, str(seed), str(tries)]
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False, timeout=HANG_SECONDS
    )
    assert run.returncode == 0, f"{run.stdout.splitlines()[-1:]}\n{run.stderr}"


@pytest.mark.parametrize("kind", KINDS)
def test_damage_anywhere_is_repaired_or_an_error(tmp_path, kind):
    try_damage(tmp_path, kind, seed=1, tries=12)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(100, 104))
def test_damage_at_thousands_of_places_is_repaired_or_an_error(tmp_path, kind, seed):
    try_damage(tmp_path, kind, seed=seed, tries=1000)


# -- refused calls

CODES = [errno.EIO, errno.ENOSPC, errno.EMFILE]


def write_more(collection, oracle):
    """More than may stay behind the columns, so that the writer takes it in."""
    put(collection, oracle, range(150, 175))


def take_in(collection, oracle):
    put(collection, oracle, range(150, 154))
    delete(collection, oracle, range(40, 44))
    collection.settle()


def build_index(collection, oracle):
    put(collection, oracle, range(150, 205))
    collection.settle()


def compact(collection, oracle):
    delete(collection, oracle, range(30, 90))
    collection.settle()


OPERATIONS = {
    "write": write_more,
    "take in": take_in,
    "extend": lambda collection, _: collection.settle(),
    "build": build_index,
    "compact": compact,
    "optimize": lambda collection, _: collection.optimize(),
    "search": assert_answers,
}


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """kind -> a folder and its oracle."""
    with pytest.MonkeyPatch.context() as patched:
        index_matters(patched.setattr)
        made = {}
        for kind in KINDS:
            folder = tmp_path_factory.mktemp(kind) / "c"
            collection, oracle = filled(folder, kind)
            collection.close()
            made[kind] = folder, oracle
    return made


@pytest.fixture
def _matters(monkeypatch):
    index_matters(monkeypatch.setattr)


def survives_refusal(template, path, operation, **fault):
    """What was refused, None where nothing was. Whatever happened, all that was written is found, then and later."""
    folder, known = template
    shutil.copytree(folder, path)
    oracle = Oracle(dict(known.documents))
    collection = Collection.open(path, background=False)
    with Refusals(path) as refusals:
        refusals.arm(**fault)
        with contextlib.suppress(StorageFailed):
            OPERATIONS[operation](collection, oracle)
        refusals.disarm()
        try:
            assert set(collection.ids()) == set(oracle.documents)
            assert_answers(collection, oracle)
            assert collection.verify().problems == []
            collection.settle()
            assert_answers(collection, oracle)
            assert collection.verify().problems == []
            assert left_over(path) == []
            collection.close()
        except BaseException as error:
            error.add_note(f"{operation}, refused: {refusals.what} ({fault})")
            raise
    shutil.rmtree(path)
    return refusals.what


def refuse_each(template, path, operation, step, **fault):
    at = 1
    while survives_refusal(template, path, operation, at=at, **fault) is not None:
        at += step
    assert at > step


@pytest.mark.usefixtures("_matters")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_refused_call_loses_nothing(templates, tmp_path, operation):
    refuse_each(templates["ivf"], tmp_path / "c", operation, 19, code=errno.ENOSPC)


@pytest.mark.soak
@pytest.mark.usefixtures("_matters")
@pytest.mark.parametrize("for_ever", [False, True])
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_refused_call_loses_nothing(templates, tmp_path, kind, operation, code, for_ever):
    refuse_each(templates[kind], tmp_path / "c", operation, 1, code=code, for_ever=for_ever)


# -- a full disk, which SQLite, tantivy and FAISS meet too


def survives_a_full_disk(template, disk, operation, free):
    """Whether the operation ended with so many bytes free. Searches go on, and all is well once there is space."""
    folder, known = template
    path = disk / "c"
    shutil.copytree(folder, path)
    oracle = Oracle(dict(known.documents))
    collection = Collection.open(path, background=False)
    (disk / "ballast").write_bytes(bytes(max(0, shutil.disk_usage(disk).free - free)))
    try:
        OPERATIONS[operation](collection, oracle)
        ended = True
    except StorageFailed:
        # Of an error in a thread of its own tantivy doesn't say which it was.
        ended = False
    try:
        assert_answers(collection, oracle)
        (disk / "ballast").unlink()
        assert collection.verify().problems == []
        collection.settle()
        assert_answers(collection, oracle)
        assert collection.verify().problems == []
        assert left_over(path) == []
    except BaseException as error:
        error.add_note(f"{operation} with {free} bytes free, ended: {ended}")
        raise
    collection.close()
    shutil.rmtree(path)
    return ended


FULL = {operation: OPERATIONS[operation] for operation in OPERATIONS if operation not in ("search", "write")}


@pytest.mark.usefixtures("_matters")
@pytest.mark.parametrize("operation", FULL)
def test_a_full_disk_stops_no_search(templates, small_disk, operation):
    (small_disk / "ballast").unlink()
    ended = [survives_a_full_disk(templates["ivf"], small_disk, operation, free << 10) for free in (0, 24, 2048)]
    assert ended[0] is False
    assert ended[-1] is True


@pytest.mark.soak
@pytest.mark.usefixtures("_matters")
@pytest.mark.parametrize("operation", FULL)
@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_is_nearly_full_stops_no_search(templates, small_disk, kind, operation):
    (small_disk / "ballast").unlink()
    for free in range(0, 512, 4):
        survives_a_full_disk(templates[kind], small_disk, operation, free << 10)
