"""Code search: BEIR's layout, CoSQA, CodeSearchNet, its annotated queries, and pools."""

import json

import pytest

from eval.datasets import read
from eval.datasets.code import POOL
from retriever.errors import InvalidData, InvalidRequest
from tests.eval.files import jsonl, judged, write

CORPUS = [{"_id": f"c{n}", "title": "", "text": f"def f{n}(): ...", "lang": "python"} for n in range(3)]
QUERIES = [{"_id": f"q{n}", "text": f"question {n}"} for n in range(3)]


def annotated(folder, **files):
    return write(
        folder,
        {
            "corpus.jsonl": jsonl(CORPUS),
            "queries.jsonl": jsonl(QUERIES),
            "annotations.tsv": "",
            "qrels/test.tsv": "q0\tc0\t3\n",
            "qrels/test_python.tsv": "q0\tc0\t3\nq0\tc1\t2\nq1\tc1\t0\n",
            "qrels/test_go.tsv": "q2\tc2\t1\n",
        }
        | files,
    )


def function(n, **others):
    return {"url": f"u{n}", "code_tokens": ["def", f"f{n}"], "docstring_tokens": ["Does", f"{n}", "."]} | others


def test_whole_codebases_in_beir_s_layout_may_name_programming_languages(tmp_path):
    files = {"corpus.jsonl": jsonl(CORPUS), "queries.jsonl": jsonl(QUERIES), "qrels/test.tsv": "q0\tc1\t1\n"}
    [task] = read("code", [write(tmp_path / "set", files)])[0].tasks
    assert (task.name, len(task.corpus), task.corpus.languages) == ("test", 3, ())
    assert judged(task) == {("q0", "c1"): 1}


def test_cosqa_is_read_as_it_was_published(tmp_path):
    questions = [{"idx": "t1", "doc": "sort a list", "retrieval_idx": 1}, {"idx": "t2", "doc": "x", "retrieval_idx": 0}]
    files = {
        "code_idx_map.txt": json.dumps({"def a(): ...": 0, "def b(): ...": 1}),
        "cosqa-retrieval-test-500.json": json.dumps(questions, indent=1),
    }
    folder = write(tmp_path / "search", files)
    [task] = read("code", [folder])[0].tasks
    assert task.corpus.texts == ("def a(): ...", "def b(): ...")
    assert judged(task) == {("t1", "c1"): 1, ("t2", "c0"): 1}
    write(folder, {"cosqa-retrieval-test-500.json": json.dumps([questions[0] | {"retrieval_idx": 7}])})
    with pytest.raises(InvalidData, match=r"t1 has function 7, code_idx_map.txt has not"):
        read("code", [folder])
    with pytest.raises(InvalidData, match=r"search has no cosqa-retrieval-dev-500.json"):
        read("code", [folder], split="dev")


def test_codesearchnet_is_read_as_it_was_published(tmp_path):
    files = {
        "python/final/jsonl/test/python_test_0.jsonl": jsonl([function(0), function(1)]),
        "python/final/jsonl/test/python_test_1.jsonl": jsonl([function(2)]),
        "go/final/jsonl/test/go_test_0.jsonl": jsonl([function(0)]),
        "go/final/jsonl/train/go_train_0.jsonl": jsonl([function(1)]),
    }
    folder = write(tmp_path / "csn", files, compressed=True)
    [dataset] = read("code", [folder])
    go, python = dataset.tasks
    assert (go.name, python.name, dataset.groups) == ("go", "python", {"mean": ["go", "python"]})
    assert (go.queries.texts, go.corpus.texts) == (("Does 0 .",), ("def f0",))
    assert judged(python) == {(f"u{n}", f"u{n}"): 1 for n in range(3)}
    assert [task.name for task in read("code", [folder], languages=["python"])[0].tasks] == ["python"]


def test_codesearchnet_with_a_codebase_searches_all_of_it(tmp_path):
    files = {"ruby/test.jsonl": jsonl([function(1)]), "ruby/codebase.jsonl": jsonl([function(0), function(1)])}
    folder = write(tmp_path / "csn", files)
    [task] = read("code", [folder])[0].tasks
    assert (len(task.queries), len(task.corpus), judged(task)) == (1, 2, {("u1", "u1"): 1})
    write(folder, {"ruby/test.jsonl": jsonl([function(1), function(5)])})
    with pytest.raises(InvalidData, match=r"csn/ruby/test.jsonl, line 2: ruby/codebase.jsonl has no function u5"):
        read("code", [folder])
    write(folder, {"ruby/test.jsonl": jsonl([function(1, docstring_tokens="text")])})
    with pytest.raises(InvalidData, match=r"csn/ruby/test.jsonl, line 1: its docstring_tokens are no list of texts"):
        read("code", [folder])


def test_annotated_queries_are_asked_by_language_among_its_functions_with_gains(tmp_path):
    [dataset] = read("code", [annotated(tmp_path / "set")])
    go, python = dataset.tasks
    assert (go.name, python.name, dataset.groups) == ("go", "python", {"mean": ["go", "python"]})
    assert judged(python) == {("q0", "c0"): 7, ("q0", "c1"): 3}
    assert python.corpus.ids == ("c0", "c1")
    assert judged(go) == {("q2", "c2"): 1}
    assert [task.name for task in read("code", [tmp_path / "set"], languages=["go"])[0].tasks] == ["go"]


def test_annotated_queries_have_no_pools_and_need_their_languages(tmp_path):
    with pytest.raises(InvalidRequest, match="set has annotated functions, not pairs"):
        read("code", [annotated(tmp_path / "set")], pools=True)
    with pytest.raises(InvalidData, match=r"set has no qrels/dev_python.tsv"):
        read("code", [tmp_path / "set"], split="dev")


def pool_tasks(folder, count):
    files = {"python/final/jsonl/test/python_test_0.jsonl": jsonl(function(n) for n in range(count))}
    return read("code", [write(folder, files)], pools=True)[0]


def test_pools_are_of_a_thousand_pairs_each_once_and_the_rest_is_left_out(tmp_path):
    dataset = pool_tasks(tmp_path / "csn", 2 * POOL + 10)
    assert [task.name for task in dataset.tasks] == ["python-1", "python-2"]
    assert dataset.groups == {"python": ["python-1", "python-2"]}
    for task in dataset.tasks:
        assert len(task.queries) == len(task.corpus) == POOL
        assert judged(task) == {(each, each): 1 for each in task.queries.ids}
    one, other = (set(task.queries.ids) for task in dataset.tasks)
    assert not one & other


def test_pools_are_the_same_ones_each_time_and_not_in_the_order_of_the_file(tmp_path):
    one, other = (pool_tasks(tmp_path / name / "csn", POOL + 10).tasks[0] for name in "ab")
    assert one.queries.ids == other.queries.ids
    assert set(one.queries.ids) != {f"u{n}" for n in range(POOL)}


def test_fewer_pairs_than_a_pool_are_one_and_a_function_in_it_is_there_once(tmp_path):
    qrels = "q0\tc1\t1\nq1\tc1\t1\nq2\tc0\t1\n"
    files = {"corpus.jsonl": jsonl(CORPUS), "queries.jsonl": jsonl(QUERIES), "qrels/test.tsv": qrels}
    [task] = read("code", [write(tmp_path / "set", files)], pools=True)[0].tasks
    assert task.name == "test-1"
    assert judged(task) == {("q0", "c1"): 1, ("q1", "c1"): 1, ("q2", "c0"): 1}
    assert task.corpus.ids == ("c0", "c1")


def test_other_folders_and_languages_that_are_not_there_are_named(tmp_path):
    with pytest.raises(InvalidData, match=r"has neither corpus.jsonl nor the files of CoSQA or CodeSearchNet"):
        read("code", [tmp_path])
    with pytest.raises(InvalidRequest, match="set has no language java"):
        read("code", [annotated(tmp_path / "set")], languages=["java"])
