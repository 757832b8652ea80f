"""JSON Lines and BEIR folders."""

import gzip
import tempfile
from pathlib import Path

import orjson
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retriever.documents import Document
from retriever.errors import SourceError
from retriever.readers import Reject, base, read

GOOD = b'{"_id": "a1", "title": "T", "text": "x", "language": "de", "year": 2024, "metadata": {"tags": ["p", "q"]}}\n'


def write(path: Path, content: bytes) -> Path:
    if path.suffix == ".gz":
        content = gzip.compress(content)
    if path.suffix == ".zst":
        content = bytes(pa.Codec("zstd").compress(content, asbytes=True))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.jsonl.zst", "d.ndjson"])
def test_a_line_becomes_a_document_whatever_the_compression(tmp_path, name):
    documents = list(read(write(tmp_path / name, GOOD * 3)))
    expected = Document(id="a1", title="T", text="x", language="de", metadata={"year": 2024, "tags": ("p", "q")})
    assert documents == [expected] * 3


def test_a_beir_corpus_is_read_as_it_is(tmp_path):
    write(tmp_path / "corpus.jsonl.gz", b'{"_id": "4983", "title": "A", "text": "B", "metadata": {}}\n')
    write(tmp_path / "queries.jsonl", b'{"_id": "q", "text": "not a document"}\n')
    assert list(read(tmp_path)) == [Document(id="4983", title="A", text="B")]
    assert list(read(tmp_path, format="beir")) == [Document(id="4983", title="A", text="B")]


def test_a_folder_without_a_corpus_is_no_beir_folder(tmp_path):
    with pytest.raises(SourceError, match=r"holds no corpus\.jsonl"):
        list(read(tmp_path, format="beir"))


BAD = {
    b"{not json}": "not JSON: ",
    b"[1, 2]": "a document is a JSON object, not list",
    b'{"text": "x"}': "it has no _id or id",
    b'{"id": "", "text": "x"}': "1 to 512 bytes",
    b'{"id": "a"}': "nothing to search",
    b'{"id": "a", "text": " \\n"}': "nothing to search",
    b'{"id": "a", "text": "\xff"}': "invalid UTF-8: byte 0xff at byte 22 of the line",
    b'{"id": "a", "text": "\\ud800"}': "surrogate",
    b'{"id": "a", "text": 1}': "text must be a string, got int",
    b'{"id": "a", "text": "x", "language": "klingonish"}': "klingonish",
    b'{"id": "a", "text": "x", "f": [1, 2]}': "metadata f must be",
    b'{"id": "a", "image": "missing.jpg"}': "unreadable picture: there is no file",
    b'{"id": "a", "image": "https://example.org/a.jpg"}': "unreadable picture: there is no file",
    b'{"id": "a", "image": "a\\u0000.jpg"}': "unreadable picture",
    b'{"id": "a", "image": "notes.txt"}': "unreadable picture: it is none of JPEG",
    b'{"id": "a", "text": "x", "deep": ' + b'{"a":' * 900 + b"1" + b"}" * 901: "nested more than 32 levels",
    b'{"id": "a", "text": "x", "deep": ' + b"[" * 900 + b"1" + b"]" * 900 + b"}": "metadata deep must be",
}


@pytest.mark.parametrize(("line", "reason"), BAD.items(), ids=lambda value: str(value)[:40])
def test_a_bad_line_is_a_reject_with_its_line_and_reading_goes_on(tmp_path, line, reason):
    (tmp_path / "notes.txt").write_text("no picture")
    path = write(tmp_path / "d.jsonl", GOOD + b"\n" + line + b"\r\n" + GOOD)
    first, reject, last = read(path)
    assert first == last
    assert isinstance(reject, Reject)
    assert (reject.file, reject.line) == (str(path), 3)
    assert reason in reject.reason


def test_a_reject_names_the_id_where_there_is_one(tmp_path):
    path = write(tmp_path / "d.jsonl", b'{"_id": "a7", "text": 5}\n{"id": 12, "text": 5}\nnonsense')
    assert [reject.id for reject in read(path)] == ["a7", "12", None]


def test_a_byte_order_mark_is_tolerated_at_the_start_alone(tmp_path):
    path = write(tmp_path / "d.jsonl", b"\xef\xbb\xbf" + GOOD + b"\xef\xbb\xbf" + GOOD)
    document, reject = read(path)
    assert isinstance(document, Document)
    assert isinstance(reject, Reject)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_truncated_file_gives_what_came_before_and_a_reject_where_it_broke(tmp_path, ending):
    lines = b"".join(b'{"_id": "%d", "text": "%d"}\n' % (n, n * 2654435761 % 2**32) for n in range(50_000))
    path = write(tmp_path / f"d.jsonl{ending}", lines)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *documents, reject = read(path)
    assert [document.id for document in documents] == [str(n) for n in range(len(documents))]
    assert len(documents) > 1000
    assert isinstance(reject, Reject)
    assert reject.line == len(documents) + 1
    assert reject.reason.startswith("the file breaks off or is damaged here, nothing after it was read: ")


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_file_that_only_claims_to_be_compressed_is_one_reject(tmp_path, ending):
    path = tmp_path / f"d.jsonl{ending}"
    path.write_bytes(GOOD)
    (reject,) = read(path)
    assert (reject.line, "damaged" in reject.reason) == (1, True)


def test_a_line_beyond_the_limit_is_a_reject_and_the_next_one_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "MAX_BYTES", len(GOOD))
    path = write(tmp_path / "d.jsonl", GOOD + b"x" * 5 * len(GOOD) + b"\n" + GOOD + b"y" * 5 * len(GOOD))
    first, reject, last, end = read(path)
    assert first == last
    assert [(bad.line, "a line may have" in bad.reason) for bad in (reject, end)] == [(2, True), (4, True)]


json_lines = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "_id", "text", "captions", "m"]), inner),
).map(lambda value: orjson.dumps(value, default=str, option=orjson.OPT_PASSTHROUGH_SUBCLASS) if fits(value) else b"{")


def fits(value: object) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        return False
    return True


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b" ")) | json_lines, max_size=8))
@example([b"\r", b"\xef\xbb\xbf", b"{}"])
def test_every_line_that_is_not_blank_gives_one_document_or_reject(lines):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "d.jsonl"), b"\n".join(lines))
        results = list(read(path))
    text = b"\n".join(lines).removeprefix(b"\xef\xbb\xbf")
    filled = [number for number, line in enumerate(text.split(b"\n"), 1) if line.strip()]
    assert len(results) == len(filled)
    assert [result.line for result in results if isinstance(result, Reject)] == [
        number for number, result in zip(filled, results, strict=True) if isinstance(result, Reject)
    ]
