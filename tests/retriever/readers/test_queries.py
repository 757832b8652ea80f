"""Files of queries: texts by line or by object, or vectors."""

import gzip

import numpy as np
import pytest

from retriever.errors import SourceError
from retriever.readers.queries import read_queries


def test_a_text_file_holds_a_query_a_line(tmp_path):
    (tmp_path / "queries.txt").write_bytes("\ufeffone two \r\n\n  日本\nlast".encode())
    assert read_queries(tmp_path / "queries.txt") == ["one two", "日本", "last"]


def test_json_lines_hold_objects_with_text(tmp_path):
    with gzip.open(tmp_path / "queries.jsonl.gz", "wt") as file:
        file.write('{"_id": "1", "text": "one"}\n\n{"_id": "2", "text": "two", "metadata": {}}\n')
    assert read_queries(tmp_path / "queries.jsonl.gz") == ["one", "two"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_an_array_holds_vectors(tmp_path, dtype):
    np.save(tmp_path / "queries.npy", np.eye(3, dtype=dtype))
    found = read_queries(tmp_path / "queries.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.eye(3))


BAD = {
    "empty.txt": (b" \n\n", "holds no queries"),
    "latin.txt": (b"one\ncaf\xe9\n", "line 2: invalid UTF-8 at byte 4"),
    "other.jsonl": (b'{"text": "one"}\n{"query": "two"}\n', "line 2: it has no `text` that is a query"),
    "blank.jsonl": (b'{"text": " "}\n', "line 1: it has no `text`"),
    "broken.jsonl": (b'{"text": \n', "line 1: not JSON"),
    "broken.npy": (b"no array", "can't be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_holds_no_query_is_named_with_its_line(tmp_path, name):
    content, reason = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=rf"{name}.*{reason}"):
        read_queries(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for name in ("absent.txt", "absent.jsonl", "absent.npy"):
        with pytest.raises(SourceError, match=f"{name} can't be read"):
            read_queries(tmp_path / name)
