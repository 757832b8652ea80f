"""Ready-made vectors."""

import gzip

import numpy as np
import pytest

from retriever.documents import Document
from retriever.errors import SourceError
from retriever.readers import Reject, read


def folder_of(tmp_path, vectors, lines: bytes):
    np.save(tmp_path / "vectors.npy", vectors)
    (tmp_path / "documents.jsonl").write_bytes(lines)
    return tmp_path


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_each_line_gets_the_vector_of_its_row(tmp_path, dtype):
    vectors = np.arange(6, dtype=dtype).reshape(2, 3)
    first, second = read(folder_of(tmp_path, vectors, b'{"id": "a", "text": "x"}\n\n{"id": "b"}\n'))
    assert (first, second.id) == (Document(id="a", text="x"), "b")
    for document, vector in zip((first, second), vectors, strict=True):
        assert document.vector.dtype == np.float32
        np.testing.assert_array_equal(document.vector, vector)


@pytest.mark.parametrize("block", [1, 2, 3, 7, 8])
def test_vectors_read_in_blocks_are_those_of_the_file(tmp_path, monkeypatch, block):
    monkeypatch.setattr("retriever.readers.vectors.BLOCK", block)
    vectors = np.arange(14, dtype=np.float32).reshape(7, 2)
    documents = read(folder_of(tmp_path, vectors, b"".join(b'{"id": %d}\n' % row for row in range(7))))
    np.testing.assert_array_equal([document.vector for document in documents], vectors)


def test_a_bad_line_or_vector_refuses_its_own_document_alone(tmp_path):
    vectors = np.array([[1, 2], [np.nan, 0], [3, 4], [5, 6]], np.float32)
    lines = b'{"id": "a"}\n{"id": "b"}\nnonsense\n{"id": "d"}\n'
    first, infinite, broken, last = read(folder_of(tmp_path, vectors, lines))
    assert (first.vector.tolist(), last.vector.tolist()) == ([1, 2], [5, 6])
    assert infinite == Reject(str(tmp_path / "documents.jsonl"), 2, "b", "a vector holds a number that is not finite")
    assert broken.line == 3


def test_counts_that_differ_are_a_source_error_with_both(tmp_path):
    folder = folder_of(tmp_path, np.zeros((3, 2), np.float32), b'{"id": "a"}\n{"id": "b"}\n')
    with pytest.raises(SourceError, match=r"has 2 documents, .* has 3 vectors"):
        list(read(folder))


def test_documents_may_be_compressed(tmp_path):
    np.save(tmp_path / "vectors.npy", np.zeros((1, 2), np.float32))
    (tmp_path / "documents.jsonl.gz").write_bytes(gzip.compress(b'{"id": "a"}\n'))
    assert [document.id for document in read(tmp_path)] == ["a"]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((1, 2)), r"holds float64 of shape \(1, 2\)"),
        (np.zeros(2, np.float32), r"holds float32 of shape \(2,\)"),
        (np.array([["a"]], object), "can't be read"),
    ],
)
def test_an_array_of_another_kind_is_a_source_error(tmp_path, vectors, message):
    with pytest.raises(SourceError, match=message):
        list(read(folder_of(tmp_path, vectors, b'{"id": "a"}\n')))


def test_a_missing_or_damaged_file_is_a_source_error(tmp_path):
    (tmp_path / "vectors.npy").write_bytes(b"nothing")
    with pytest.raises(SourceError, match=r"holds no documents\.jsonl"):
        list(read(tmp_path))
    (tmp_path / "documents.jsonl").touch()
    with pytest.raises(SourceError, match=r"vectors\.npy can't be read"):
        list(read(tmp_path))
