"""What holds for every source: detection, errors, and memory that doesn't grow with it."""

import gzip
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retriever.documents import Document
from retriever.errors import SourceError
from retriever.readers import FORMATS, Reject, detect, read

FILES = {
    "a.jsonl": "jsonl", "a.JSONL.gz": "jsonl", "a.ndjson.zst": "jsonl", "a.csv": "table", "a.tsv.zst": "table",
    "a.parquet": "table", "a.arrow": "table", "a.feather": "table", "a.ipc": "table", "a.md": "text", "a.txt": "text",
    "a.HTML": "text", "a.py": "python",
}  # fmt: skip


@pytest.mark.parametrize(("name", "expected"), FILES.items())
def test_a_files_ending_tells_its_format(tmp_path, name, expected):
    (tmp_path / name).touch()
    assert detect(tmp_path / name) == expected


FOLDERS = {
    "vectors": ["vectors.npy", "documents.jsonl", "a.md"],
    "beir": ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"],
    "text": ["a.md", "deep/b.html", "c.bin"],
    "python": [*(f"m{number}.py" for number in range(9)), "README.md"],
    "pictures": ["a.jpg", "b.webp", "captions.jsonl"],
}


def filled(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(("expected", "names"), FOLDERS.items())
def test_what_a_folder_holds_tells_its_format(tmp_path, expected, names):
    assert detect(filled(tmp_path, names)) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.md", "b.py"], r"holds files of several formats \((text: 1, python: 1|python: 1, text: 1)\)"),
        ([".hidden/a.md"], "holds no text, Python or picture files"),
    ],
)
def test_a_folder_that_tells_nothing_is_a_source_error_that_names_the_formats(tmp_path, names, message):
    with pytest.raises(SourceError, match=message) as caught:
        detect(filled(tmp_path, names))
    assert all(name in caught.value.hint for name in FORMATS)


def test_a_source_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "a.json").touch()
    with pytest.raises(SourceError, match="there is no file or folder"):
        read(tmp_path / "missing.jsonl")
    with pytest.raises(SourceError, match=r"the ending of .*a\.json names no format"):
        read(tmp_path / "a.json")
    with pytest.raises(SourceError, match="'xml' is not a format"):
        read(tmp_path / "a.json", format="xml")


@pytest.mark.parametrize("format_name", ["jsonl", "table"])
def test_a_folder_where_a_file_is_needed_is_a_source_error(tmp_path, format_name):
    with pytest.raises(SourceError, match="can't be read: Is a directory"):
        list(read(tmp_path, format=format_name))


def test_a_folder_that_cannot_be_listed_is_a_reject(tmp_path, monkeypatch):
    # Permissions don't stop the administrator, as whom tests may run: the listing itself fails here.
    filled(tmp_path, ["a.txt", "closed/b.txt"])
    (tmp_path / "a.txt").write_text("text")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    document, reject = read(tmp_path)
    assert document.id == "a.txt"
    assert reject == Reject(str(tmp_path / "closed"), None, None, "the folder can't be listed: Permission denied")


def sources(folder: Path, count: int):
    """Sources of `count` documents, by format."""
    text = "word " * 20
    lines = [b'{"id": "%d", "text": "%s"}\n' % (number, text.encode()) for number in range(count)]
    (folder / "d.jsonl").write_bytes(b"".join(lines))
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(b"".join(lines), 1))
    (folder / "d.csv").write_text("id,text,n\n" + "".join(f"{number},{text},{number}\n" for number in range(count)))
    ids = pa.array([str(number) for number in range(count)])
    pq.write_table(pa.table({"id": ids, "text": [text] * count}), folder / "d.parquet", row_group_size=count)
    (folder / "v").mkdir()
    (folder / "v" / "documents.jsonl").write_bytes(b"".join(lines))
    np.save(folder / "v" / "vectors.npy", np.ones((count, 64), np.float32))
    (folder / "t").mkdir()
    for number in range(count // 100):
        (folder / "t" / f"{number}.py").write_text("def f():\n    pass\n" * 100)
    return ["d.jsonl", "d.jsonl.gz", "d.csv", "d.parquet", "v", "t"]


def test_memory_does_not_grow_with_the_input(tmp_path):
    def peak(source: Path) -> int:
        tracemalloc.reset_peak()
        start, arrow = tracemalloc.get_traced_memory()[0], 0
        for result in read(source):
            assert isinstance(result, Document)
            arrow = max(arrow, pa.total_allocated_bytes())
        return tracemalloc.get_traced_memory()[1] - start + arrow

    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir(), large.mkdir()
    names = sources(small, 600)
    sources(large, 6000)
    tracemalloc.start()
    try:
        for name in names:
            list(read(small / name))
            # As objects the larger one's documents have 2 MB more, and their vectors 1.4 MB.
            assert peak(large / name) < peak(small / name) + 300_000, name
    finally:
        tracemalloc.stop()
