"""Parquet, Arrow IPC and Feather."""

import datetime
import decimal
import io

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from PIL import Image

from retriever.documents import Document
from retriever.errors import SourceError
from retriever.readers import Reject, read

TABLE = pa.table(
    {
        "_id": ["a", "b", None],
        "title": ["A", None, "C"],
        "text": ["über", "x", "y"],
        "lang": ["de", None, None],
        "year": pa.array([2024, None, 1], pa.int32()),
        "day": [datetime.date(2024, 5, 1), None, None],
        "price": pa.array([decimal.Decimal("2.50"), decimal.Decimal("3.00"), None], pa.decimal128(6, 2)),
        "tags": pa.array([["p", "q"], None, []], pa.list_(pa.string())),
        "captions": pa.array([[("de", ["Katze"])], None, None], pa.map_(pa.string(), pa.list_(pa.string()))),
        "metadata": pa.array([{"a": 1, "b": {"c": "x"}}, None, None]),
    }
)


def stored(path, table=TABLE):
    match path.suffix:
        case ".parquet":
            pq.write_table(table, path, row_group_size=2)
        case ".feather":
            pyarrow.feather.write_feather(table, path)
        case ".arrow":
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
        case ".ipc":
            with pa.ipc.new_stream(path, table.schema) as writer:
                writer.write_table(table)
    return path


ENDINGS = ["parquet", "feather", "arrow", "ipc"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_become_documents_in_every_container(tmp_path, ending):
    first, second, third = read(stored(tmp_path / f"d.{ending}"))
    assert first == Document(
        id="a",
        title="A",
        text="über",
        language="de",
        captions={"de": ("Katze",)},
        metadata={"year": 2024, "day": "2024-05-01", "price": 2.5, "tags": ("p", "q"), "a": 1, "b.c": "x"},
    )
    assert second == Document(id="b", text="x", metadata={"price": 3})
    assert isinstance(third, Reject)
    assert third.line == 3


def test_captions_may_be_a_struct_with_a_field_a_language(tmp_path):
    captions = pa.array([{"de": ["Katze"], "fr": None}, {"de": None, "fr": ["chat"]}])
    first, second = read(stored(tmp_path / "d.parquet", pa.table({"id": [1, 2], "captions": captions})))
    assert (first.captions, second.captions) == ({"de": ("Katze",)}, {"fr": ("chat",)})
    assert (first.id, second.id) == ("1", "2")


def test_pictures_may_be_bytes_in_a_column(tmp_path):
    out = io.BytesIO()
    Image.new("RGB", (3, 2)).save(out, "PNG")
    table = pa.table({"id": ["a", "b"], "image": [out.getvalue(), b"no picture"]})
    document, reject = read(stored(tmp_path / "d.parquet", table))
    assert document.picture == out.getvalue()
    assert "unreadable picture" in reject.reason


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_string_that_is_not_utf8_refuses_its_own_row(tmp_path, ending):
    raw = pa.array([b"fine", b"\xff", b"too"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    results = list(read(stored(tmp_path / f"d.{ending}", pa.table({"id": ["a", "b", "c"], "text": text}))))
    assert [type(result) for result in results] == [Document, Reject, Document]
    assert (results[1].line, "utf-8" in results[1].reason) == (2, True)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_is_no_table_is_a_source_error(tmp_path, ending):
    path = tmp_path / f"d.{ending}"
    path.write_bytes(b"nothing of the kind, really")
    with pytest.raises(SourceError, match="can't be read"):
        list(read(path))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_table_without_an_id_is_a_source_error(tmp_path, ending):
    with pytest.raises(SourceError, match="no column _id or id, its columns are: text"):
        list(read(stored(tmp_path / f"d.{ending}", pa.table({"text": ["x"]}))))


def test_a_damaged_page_is_a_reject_after_the_rows_before_it(tmp_path):
    table = pa.table({"id": [str(n) for n in range(4000)], "text": [f"{n * 2654435761 % 2**32}" for n in range(4000)]})
    path = tmp_path / "d.parquet"
    pq.write_table(table, path, row_group_size=1000, compression="zstd")
    content = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(2).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    *documents, reject = read(path)
    assert [document.id for document in documents] == [str(n) for n in range(2000)]
    assert (reject.line, "damaged" in reject.reason) == (2001, True)
