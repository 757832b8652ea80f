"""Datasets in BEIR's layout, whole and broken."""

import pytest

from eval.datasets import read
from retriever.errors import InvalidData, InvalidRequest
from tests.eval.files import jsonl, judged, write

CORPUS = [{"_id": "a", "title": "A", "text": "first"}, {"_id": "b", "title": "", "text": "second"}]
QUERIES = [{"_id": "1", "text": "one"}, {"_id": "2", "text": "two"}, {"_id": "3", "text": "unjudged"}]
QRELS = "query-id\tcorpus-id\tscore\n2\tb\t2\n1\ta\t1\n2\ta\t0\n"


def beir(folder, corpus=CORPUS, queries=QUERIES, qrels=QRELS, *, compressed=False):
    files = {"corpus.jsonl": jsonl(corpus), "queries.jsonl": jsonl(queries), "qrels/test.tsv": qrels}
    return write(folder, files, compressed=compressed)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_folder_is_a_task_of_the_queries_that_are_judged(tmp_path, compressed):
    [dataset] = read("beir", [beir(tmp_path / "set", compressed=compressed)])
    [task] = dataset.tasks
    assert (dataset.name, task.name, task.queries.ids, task.corpus.ids) == ("set", "test", ("1", "2"), ("a", "b"))
    assert task.corpus.contents == ["A first", "second"]
    assert judged(task) == {("1", "a"): 1, ("2", "a"): 0, ("2", "b"): 2}
    names = ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv")
    assert sorted(dataset.files) == sorted(name + (".gz" if compressed else "") for name in names)


def test_the_checksums_are_those_of_the_files(tmp_path):
    import hashlib

    folder = beir(tmp_path / "set")
    [dataset] = read("beir", [folder])
    for name, checksum in dataset.files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == checksum


def test_ids_may_be_numbers_lines_may_be_blank_and_a_text_may_hold_a_separator(tmp_path):
    corpus = [{"_id": 1, "text": "line\u2028separator"}, {"id": "b", "text": "second"}]
    qrels = QRELS.replace("\ta\t", "\t1\t").replace("\n", "\r\n")
    folder = beir(tmp_path / "set", corpus, qrels=qrels + "\r\n")
    (folder / "corpus.jsonl").write_text("\n" + jsonl(corpus) + "\n\n")
    [task] = read("beir", [folder])[0].tasks
    assert task.corpus.ids == ("1", "b")
    assert judged(task) == {("1", "1"): 1, ("2", "1"): 0, ("2", "b"): 2}


def test_qrels_without_a_header_lose_no_line(tmp_path):
    [task] = read("beir", [beir(tmp_path / "set", qrels=QRELS.partition("\n")[2])])[0].tasks
    assert judged(task) == {("1", "a"): 1, ("2", "a"): 0, ("2", "b"): 2}


def test_several_splits_are_tasks_that_share_the_corpus(tmp_path):
    folder = beir(tmp_path / "set")
    write(folder, {"qrels/dev.tsv": "query-id\tcorpus-id\tscore\n3\ta\t1\n"})
    dev, test = read("beir", [folder], split="dev,test")[0].tasks
    assert (dev.name, dev.queries.ids, test.name, test.queries.ids) == ("dev", ("3",), "test", ("1", "2"))
    assert dev.corpus is test.corpus


def test_a_folder_of_folders_has_a_task_for_each_and_their_mean(tmp_path):
    for name in ("android", "tex"):
        beir(tmp_path / "cqadupstack" / name)
    [dataset] = read("beir", [tmp_path / "cqadupstack"])
    assert [task.name for task in dataset.tasks] == ["android", "tex"]
    assert {task.query_language for task in dataset.tasks} == {None}
    assert dataset.groups == {"mean": ["android", "tex"]}
    assert "android/corpus.jsonl" in dataset.files


@pytest.mark.parametrize("names", [("bengali", "swahili"), ("bn", "sw")])
def test_folders_that_are_named_by_languages_are_in_these_languages(tmp_path, names):
    for name in names:
        beir(tmp_path / "mrtydi" / name, compressed=True)
    [dataset] = read("beir", [tmp_path / "mrtydi"])
    assert [task.query_language for task in dataset.tasks] == ["bn", "sw"]
    assert [task.corpus.languages for task in dataset.tasks] == [("bn", "bn"), ("sw", "sw")]
    [one] = read("beir", [tmp_path / "mrtydi"], languages=["swa"])[0].tasks
    assert (one.name, one.document_language) == (names[1], "sw")


def test_languages_of_a_folder_that_has_none_are_an_error(tmp_path):
    beir(tmp_path / "cqadupstack" / "android")
    for folder in ("cqadupstack", "cqadupstack/android"):
        with pytest.raises(InvalidRequest, match="has no languages to choose from"):
            read("beir", [tmp_path / folder], languages=["en"])


def test_texts_that_name_their_language_have_it_in_canonical_form(tmp_path):
    corpus = [{**row, "lang": "deu"} for row in CORPUS]
    [task] = read("beir", [beir(tmp_path / "set", corpus)])[0].tasks
    assert (task.corpus.languages, task.document_language, task.query_language) == (("de", "de"), "de", None)


@pytest.mark.parametrize("name", ["arguana", "quora", "ArguAna", "nano-quora", "nano_arguana"])
def test_a_query_of_arguana_or_quora_does_not_find_itself(tmp_path, name):
    assert read("beir", [beir(tmp_path / name)])[0].tasks[0].ignores_same_id


def test_elsewhere_equal_ids_are_a_coincidence(tmp_path):
    assert not read("beir", [beir(tmp_path / "cranfield")])[0].tasks[0].ignores_same_id


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"corpus": [*CORPUS, CORPUS[0]]}, "set/corpus.jsonl, line 3: a was there before"),
        ({"corpus": [{"_id": "a", "title": " ", "text": ""}]}, "set/corpus.jsonl, line 1: a has no text"),
        ({"corpus": [{"_id": "a", "text": 5}]}, "set/corpus.jsonl, line 1: its text is a int"),
        ({"corpus": [{"_id": "a", "text": "x", "lang": "python"}]}, "line 1: 'python' names no language"),
        ({"queries": [{"text": "x"}]}, "set/queries.jsonl, line 1: it has no _id"),
        ({"queries": [{"_id": "a b", "text": "x"}]}, "set/queries.jsonl, line 1: the id 'a b' has a space"),
        ({"qrels": QRELS + "4\ta\t1\n"}, "set/qrels/test.tsv, line 5: queries.jsonl has no query 4"),
        ({"qrels": QRELS + "1\tz\t1\n"}, "set/qrels/test.tsv, line 5: corpus.jsonl has no document z"),
        ({"qrels": QRELS + "1\ta\t1\n"}, "set/qrels/test.tsv, line 5: 1 and a were judged before"),
        ({"qrels": QRELS + "1 a 1\n"}, "set/qrels/test.tsv, line 5: 1 columns"),
        ({"qrels": QRELS + "1\tb\tgood\n"}, "set/qrels/test.tsv, line 5: 'good' is no whole number"),
        ({"qrels": "query-id\tcorpus-id\tscore\n"}, "set/qrels/test.tsv judges nothing"),
    ],
)
def test_what_is_inconsistent_is_named_by_file_line_and_id(tmp_path, parts, said):
    with pytest.raises(InvalidData, match=said) as caught:
        read("beir", [beir(tmp_path / "set", **parts)])
    assert caught.value.hint
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("corpus.jsonl", b"{half", "set/corpus.jsonl, line 1: not JSON"),
        ("corpus.jsonl", b"[1]", "set/corpus.jsonl, line 1: it is a list"),
        ("queries.jsonl", b'{"_id": "1", "text": "one"}\n\xff\xfe', "set/queries.jsonl, line 2: .*invalid start byte"),
        ("queries.jsonl", None, "set has no queries.jsonl"),
        ("qrels/test.tsv", None, "set has no qrels/test.tsv"),
    ],
)
def test_what_is_damaged_or_missing_is_named(tmp_path, name, content, said):
    folder = beir(tmp_path / "set")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(InvalidData, match=said):
        read("beir", [folder])


def test_a_compressed_file_that_breaks_off_is_named(tmp_path):
    folder = beir(tmp_path / "set", compressed=True)
    whole = (folder / "corpus.jsonl.gz").read_bytes()
    (folder / "corpus.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidData, match=r"set/corpus.jsonl.gz, line 1: the file breaks off or is damaged"):
        read("beir", [folder])


def test_a_split_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    with pytest.raises(InvalidData, match="no split dev") as caught:
        read("beir", [beir(tmp_path / "set")], split="dev")
    assert caught.value.hint == "it has test"


def test_a_folder_without_a_corpus_and_what_is_no_folder_are_named(tmp_path):
    with pytest.raises(InvalidData, match=r"has no corpus.jsonl, and no folder in it has one"):
        read("beir", [tmp_path])
    with pytest.raises(InvalidData, match="nothing is no folder"):
        read("beir", [tmp_path / "nothing"])
