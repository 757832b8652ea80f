"""Datasets in BEIR's layout, whole and broken."""

import gzip
import json
import os
from pathlib import Path

import pytest

from eval.datasets.beir import read
from retriever.errors import InvalidData

CORPUS = [{"_id": "a", "title": "A", "text": "first"}, {"_id": "b", "title": "", "text": "second"}]
QUERIES = [{"_id": "1", "text": "one"}, {"_id": "2", "text": "two"}, {"_id": "3", "text": "unjudged"}]
QRELS = "query-id\tcorpus-id\tscore\n2\tb\t2\n1\ta\t1\n2\ta\t0\n"


def write(folder: Path, corpus=CORPUS, queries=QUERIES, qrels=QRELS, *, compressed=False) -> Path:
    (folder / "qrels").mkdir(parents=True)
    for name, content in (
        ("corpus.jsonl", "".join(json.dumps(row) + "\n" for row in corpus)),
        ("queries.jsonl", "".join(json.dumps(row) + "\n" for row in queries)),
        ("qrels/test.tsv", qrels),
    ):
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
        else:
            (folder / name).write_text(content)
    return folder


@pytest.mark.parametrize("compressed", [False, True])
def test_a_folder_is_a_task_of_the_queries_that_are_judged(tmp_path, compressed):
    dataset = read(write(tmp_path / "set", compressed=compressed))
    [task] = dataset.tasks
    assert (dataset.name, task.name, task.queries.ids, task.corpus.ids) == ("set", "test", ("1", "2"), ("a", "b"))
    assert task.corpus.contents == ["A first", "second"]
    judged = task.judgements
    rows = list(zip(judged.query.tolist(), judged.document.tolist(), judged.grade.tolist(), strict=True))
    assert rows == [(0, 0, 1), (1, 0, 0), (1, 1, 2)]
    assert sorted(dataset.files) == sorted(
        name + (".gz" if compressed else "") for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv")
    )
    assert all(len(checksum) == 64 for checksum in dataset.files.values())


def test_a_folder_of_folders_has_a_task_for_each_and_their_mean(tmp_path):
    for name in ("android", "english"):
        write(tmp_path / "cqadupstack" / name)
    dataset = read(tmp_path / "cqadupstack")
    assert [task.name for task in dataset.tasks] == ["android", "english"]
    assert dataset.groups == {"mean": ["android", "english"]}
    assert "android/corpus.jsonl" in dataset.files


def test_a_query_of_arguana_does_not_find_itself(tmp_path):
    assert read(write(tmp_path / "ArguAna")).tasks[0].ignores_same_id
    assert not read(write(tmp_path / "other")).tasks[0].ignores_same_id


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"corpus": [*CORPUS, CORPUS[0]]}, "corpus.jsonl, line 3: a was there before"),
        ({"corpus": [{"_id": "a", "title": " ", "text": ""}]}, "corpus.jsonl, line 1: a has no text"),
        ({"queries": [{"text": "x"}]}, "queries.jsonl, line 1: it has no _id"),
        ({"qrels": QRELS + "4\ta\t1\n"}, "test.tsv, line 5: queries.jsonl has no query 4"),
        ({"qrels": QRELS + "1\tz\t1\n"}, "test.tsv, line 5: corpus.jsonl has no document z"),
        ({"qrels": QRELS + "1\ta\t1\n"}, "test.tsv, line 5: 1 and a were judged before"),
        ({"qrels": QRELS + "1 a 1\n"}, "test.tsv, line 5: 1 columns"),
        ({"qrels": QRELS + "1\tb\tgood\n"}, "test.tsv, line 5: 'good' is no whole number"),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, "qrels/test.tsv judges nothing"),
    ],
)
def test_what_is_inconsistent_is_named_by_file_and_line(tmp_path, parts, said):
    with pytest.raises(InvalidData, match=said):
        read(write(tmp_path / "set", **parts))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("corpus.jsonl", b"{half", "corpus.jsonl, line 1: not JSON"),
        ("corpus.jsonl", b"[1]", "corpus.jsonl, line 1: a list"),
        ("queries.jsonl", b"\xff\xfe\x00", "queries.jsonl can't be read"),
        ("queries.jsonl", None, "set has no queries.jsonl"),
    ],
)
def test_what_is_damaged_or_missing_is_named(tmp_path, name, content, said):
    folder = write(tmp_path / "set")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(InvalidData, match=said):
        read(folder)


def test_a_split_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    with pytest.raises(InvalidData, match="no split dev") as caught:
        read(write(tmp_path / "set"), "dev")
    assert caught.value.hint == "it has test"


@pytest.mark.data
@pytest.mark.skipif("POLYSEEK_DATA" not in os.environ, reason="POLYSEEK_DATA is not set")
@pytest.mark.parametrize(
    ("name", "queries", "documents", "judgements"),
    [
        ("scifact", 300, 5183, 339), ("cranfield", 225, 1398, 1836), ("cisi", 76, 1460, 3114), ("cacm", 52, 3204, 796),
        ("npl", 93, 11426, 2083), ("medquad-liveqa", 103, 17908, 2311), ("cosqa", 500, 6267, 500),
    ],
)  # fmt: skip
def test_real_sets_have_the_sizes_of_their_descriptions(name, queries, documents, judgements):
    [task] = read(Path(os.environ["POLYSEEK_DATA"]) / name).tasks
    assert (len(task.queries), len(task.corpus), len(task.judgements)) == (queries, documents, judgements)
