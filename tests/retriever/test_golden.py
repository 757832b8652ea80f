"""What earlier releases wrote is read for ever, or refused with what to do. The collections: `golden/make.py`."""

import shutil

import orjson
import pytest

from retriever import Collection
from retriever.database import connect
from retriever.errors import UnsupportedFormat
from retriever.store import FILE_NAME, FORMAT
from tests.retriever.golden.make import FOLDER, GOLDEN, answers, stored

EXPECTED = orjson.loads((FOLDER / f"format-{FORMAT}.json").read_bytes())


@pytest.fixture(params=["derived files there", "derived files lost"])
def collection(request, tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "c")
    if request.param == "derived files lost":
        shutil.rmtree(tmp_path / "c" / "dense")
        shutil.rmtree(tmp_path / "c" / "lexical")
        (tmp_path / "c" / "keeper.state").unlink()
    with Collection.open(tmp_path / "c", background=False) as opened:
        yield opened


def test_it_answers_as_when_it_was_made(collection):
    assert collection.generation == EXPECTED["generation"]
    assert answers(collection) == EXPECTED["answers"]
    assert stored(collection) == EXPECTED["documents"]
    assert collection.picture("captions")[1] == "image/png"
    assert collection.verify().problems == []


def test_it_is_written_to_and_settled(collection):
    collection.delete(ids=["code"])
    collection.settle()
    collection.optimize(kind="ivf")
    assert "code" not in set(collection.ids())
    assert collection.verify().problems == []


def test_the_derived_files_are_taken_as_they_are(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "c")
    with Collection.open(tmp_path / "c", background=False) as collection:
        assert collection.info().kind == "rabitq"
        assert collection.info().index.recall_of == "queries"
    assert {path.name for path in (tmp_path / "c" / "dense").iterdir()} == {
        path.name for path in (GOLDEN / "dense").iterdir()
    }


def test_a_format_that_is_not_known_is_refused_with_what_to_do(tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "c")
    connection = connect(tmp_path / "c" / FILE_NAME)
    connection.execute(f"PRAGMA user_version = {FORMAT + 1}")
    connection.close()
    with pytest.raises(UnsupportedFormat, match=f"format {FORMAT + 1}, this release reads format {FORMAT}") as raised:
        Collection.open(tmp_path / "c")
    assert "install the polyseek release that wrote it" in raised.value.hint
