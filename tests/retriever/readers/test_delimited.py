"""CSV and TSV."""

import csv
import gzip
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.documents import Document
from retriever.errors import SourceError
from retriever.readers import Reject, base, read


def test_rows_become_documents_with_typed_columns(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text(
        "id,title,text,lang,year,score,open,zip,version\n"
        '1,Eins,"über ""alles""",de,2024,0.5,true,01234,1.10\n'
        '2,Zwei,"zwei\nZeilen",de,,1,False,99,1.10.2\n',
        encoding="utf-8",
    )
    first, second = read(path)
    metadata = {"year": 2024, "score": 0.5, "open": True, "zip": "01234", "version": "1.10"}
    assert first == Document(id="1", title="Eins", text='über "alles"', language="de", metadata=metadata)
    assert second.text == "zwei\nZeilen"
    assert second.metadata == {"score": 1.0, "open": False, "zip": "99", "version": "1.10.2"}


def test_captions_and_metadata_columns_hold_json(tmp_path):
    path = tmp_path / "d.tsv.gz"
    row = 'a\t"{""de"": [""Katze""], ""fr"": ""chat""}"\t"{""a"": {""b"": 1}}"\n'
    path.write_bytes(gzip.compress(f"_id\tcaptions\tmetadata\n{row}b\t{{]\t\n".encode()))
    document, reject = read(path)
    assert document == Document(id="a", captions={"de": ("Katze",), "fr": ("chat",)}, metadata={"a.b": 1})
    assert (reject.line, reject.reason.startswith("column captions holds a JSON object")) == (3, True)


def test_a_bad_row_is_a_reject_with_the_line_it_starts_on(tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(
        b'\xef\xbb\xbfid,text\n1,"two\nlines"\n\n2,too,many\n3,\xff\n,no id\n4,\n'
        b'5,"broken" quote\n6,fine\n7,"never closed\n'
    )
    results = list(read(path))
    assert [result.id for result in results if isinstance(result, Document)] == ["1", "6"]
    rejects = {result.line: result.reason for result in results if isinstance(result, Reject)}
    assert set(rejects) == {5, 6, 7, 8, 9, 11}
    assert rejects[5] == "the row has 3 cells, the header has 2"
    assert rejects[6] == "invalid UTF-8 in column text"
    assert "no _id or id" in rejects[7]
    assert "nothing to search" in rejects[8]
    assert rejects[9].startswith("not a row: ")
    assert rejects[11].startswith("not a row: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column _id or id, its columns are: none"),
        ("name,text\na,b\n", "no column _id or id, its columns are: name, text"),
        ("id,text,text\n", "has the column text more than once"),
        ('"id,text\n', "has no header, line 1"),
    ],
)
def test_a_header_that_makes_no_documents_is_a_source_error(tmp_path, content, message):
    path = tmp_path / "d.csv"
    path.write_text(content)
    with pytest.raises(SourceError, match=message):
        list(read(path))


def test_a_cell_may_be_longer_than_the_csv_module_allows_by_default(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("id,text\n1," + "x" * 200_000 + "\n")
    (document,) = read(path)
    assert len(document.text) == 200_000


def test_a_line_beyond_the_limit_is_a_reject_and_the_next_row_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "MAX_BYTES", 20)
    path = tmp_path / "d.csv"
    path.write_text("id,text\n1,a\n2," + "x" * 99 + "\n3,b\n")
    first, reject, last = read(path)
    assert (first.id, reject.line, last.id) == ("1", 3, "3")


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=6), st.sampled_from([".csv", ".tsv"]))
def test_what_the_csv_module_writes_is_read_back(rows, suffix):
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t" if suffix == ".tsv" else ",", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["id", "title", "text"])
    writer.writerows([str(number), *row] for number, row in enumerate(rows))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"d{suffix}")
        path.write_bytes(out.getvalue().encode())
        read_back = [result for result in read(path) if isinstance(result, Document)]
    filled = [(str(number), *row) for number, row in enumerate(rows) if any(cell.strip() for cell in row)]
    assert [(document.id, document.title, document.text) for document in read_back] == filled
