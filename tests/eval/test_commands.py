"""`polyseek eval` as its users see it, on a small folder in BEIR's layout."""

import json
import os

import pytest
import typer

from eval import commands
from eval.commands import READ_AS
from eval.datasets import KINDS, options
from retriever import cli

DOCUMENTS = ("the apple tree", "a river of stone", "clouds over the sea", "tigers play the piano", "honey in a glass")
QUERIES = ("apple", "stone river", "cloud", "piano")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, cache):
    """An empty working directory, and no settings but the cache."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("POLYSEEK_") and name != "POLYSEEK_CACHE"]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def polyseek(capfd):
    def run(*arguments):
        status = cli.run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return status, out, err

    return run


@pytest.fixture
def data(folder):
    return write_beir(folder / "small")


def write_beir(path, documents=DOCUMENTS):
    (path / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": f"d{place}", "title": "", "text": text}) for place, text in enumerate(documents)]
    (path / "corpus.jsonl").write_text("\n".join(lines))
    lines = [json.dumps({"_id": f"q{place}", "text": text}) for place, text in enumerate(QUERIES)]
    (path / "queries.jsonl").write_text("\n".join(lines))
    rows = [f"q{place}\td{place}\t1" for place in range(len(QUERIES))]
    (path / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    return path


def content(folder):
    return json.loads((folder / "metrics.json").read_text())


def mean(folder, system, metric="ndcg@10"):
    [row] = [row for row in content(folder)["results"] if row["system"] == system]
    return row["scores"][metric]["mean"]


def test_models_collections_bm25_and_runs_stand_in_one_table(polyseek, data, model, folder):
    assert polyseek("eval", "beir", data, "--bm25", "--out", "first")[0] == 0
    status, out, err = polyseek(
        "eval", "beir", data, "--model", model, "--collection", "c:dense", "--collection", "c", "--bm25", "--run",
        "first/bm25.trec", "--baseline", "tiny", "--out", "out",
    )  # fmt: skip
    assert (status, err) == (1, err)  # the run and BM25 have one name
    assert "two systems are called bm25" in err
    status, out, err = polyseek(
        "eval", "beir", data, "--model", model, "--collection", "c:dense", "--collection", "c", "--run",
        "first/bm25.trec", "--baseline", "tiny", "--out", "out",
    )  # fmt: skip
    assert status == 0
    for system in ("tiny", "c:dense", "c", "bm25"):
        assert f" {system} " in out
        assert (folder / "out" / f"{system}.trec").is_file()
    assert "Beside tiny:" in out
    assert mean(folder / "out", "c:dense") == pytest.approx(mean(folder / "out", "tiny"), abs=1e-6)
    assert mean(folder / "out", "bm25") == mean(folder / "first", "bm25")


def test_json_is_all_that_standard_output_has(polyseek, data):
    status, out, _ = polyseek("eval", "beir", data, "--bm25", "--metric", "success@1", "--out", "out", "--json")
    assert status == 0
    assert json.loads(out)["results"][0]["scores"]["success@1"]["n"] == 4


def test_a_run_may_be_the_baseline(polyseek, data, model, folder):
    polyseek("eval", "beir", data, "--bm25", "--out", "first")
    status, _, _ = polyseek(
        "eval", "beir", data, "--model", model, "--baseline", "first/bm25.trec", "--depth", "2", "--out", "out"
    )
    assert status == 0
    assert {one["baseline"] for one in content(folder / "out")["comparisons"]} == {"bm25"}


def test_several_datasets_have_their_mean(polyseek, data, folder):
    other = write_beir(folder / "other", DOCUMENTS[::-1])
    assert polyseek("eval", "beir", data, other, "--bm25", "--out", "out")[0] == 0
    [macro] = content(folder / "out")["means"]
    first, second = (row["scores"]["map"]["mean"] for row in content(folder / "out")["results"])
    assert macro["macro"]["map"]["mean"] == pytest.approx((first + second) / 2)


def test_a_collection_is_built_with_the_first_model_and_kept(polyseek, data, model, folder):
    polyseek("eval", "beir", data, "--model", model, "--collection", "c:lexical", "--root", "root", "--out", "out")
    status, out, _ = polyseek("index", "info", "c", "--root", "root", "--json")
    assert status == 0
    assert json.loads(out)["encoder"] == str(model)
    assert json.loads(out)["passages"] == "none"


def test_verify_finds_the_same_figures_wherever_it_is_called(polyseek, data, model, folder, monkeypatch):
    polyseek("eval", "beir", "small", "--model", os.path.relpath(model), "--bm25", "--out", "out")
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert polyseek("eval", "verify", "../out")[:2] == (0, "ok: the same figures again\n")


def test_verify_names_the_file_that_changed_and_fails(polyseek, data):
    polyseek("eval", "beir", data, "--bm25", "--out", "out")
    with (data / "corpus.jsonl").open("a") as file:
        file.write('\n{"_id": "d9", "text": "apple apple"}')
    status, out, err = polyseek("eval", "verify", "out")
    assert status == 1
    assert "corpus.jsonl of small is not the file that it was" in out
    assert err.startswith("error: ")


def test_compare_shows_how_evaluations_differ(polyseek, data, model):
    polyseek("eval", "beir", data, "--bm25", "--out", "one")
    polyseek("eval", "beir", data, "--model", model, "--out", "two")
    status, out, _ = polyseek("eval", "compare", "one", "two")
    assert status == 0
    assert "Beside bm25:" in out
    status, out, _ = polyseek("eval", "compare", "one", "two", "--json")
    assert [json.loads(line)["metric"] for line in out.splitlines()] == ["ndcg@10", "recall@100", "mrr@10", "map"]


def test_fuse_writes_a_run_that_can_be_evaluated(polyseek, data, model, folder):
    polyseek("eval", "beir", data, "--model", model, "--bm25", "--out", "out")
    status, _, err = polyseek(
        "eval", "fuse", "out/bm25.trec", "out/tiny.trec", "--out", "fused.trec", "--weight", 1, "--weight", 0
    )
    assert status == 0, err
    assert polyseek("eval", "beir", data, "--run", "fused.trec", "--out", "again")[0] == 0
    assert mean(folder / "again", "fused") == mean(folder / "out", "bm25")  # the other weighs nothing


def test_fuse_fuses_folders_file_by_file(polyseek, data, folder, model):
    other = write_beir(folder / "other")
    polyseek("eval", "beir", data, other, "--model", model, "--bm25", "--out", "out")
    assert polyseek("eval", "fuse", "out/bm25", "out/tiny", "--out", "fused")[0] == 0
    assert polyseek("eval", "beir", data, other, "--run", "fused", "--out", "again")[0] == 0
    (folder / "out" / "tiny" / "other" / "test.trec").unlink()
    status, _, err = polyseek("eval", "fuse", "out/bm25", "out/tiny", "--out", "fused")
    assert status == 1
    assert "tiny has no other/test.trec" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("eval", "beir", "small", "--out", "out"), "no system to evaluate"),
        (("eval", "beir", "nowhere", "--bm25", "--out", "out"), "nowhere"),
        (("eval", "beir", "small", "--collection", "c:sparse", "--out", "out"), "no mode 'sparse'"),
        (("eval", "beir", "small", "--bm25", "--baseline", "x", "--out", "out"), "no system x"),
        (("eval", "beir", "small", "--bm25", "--split", "dev", "--out", "out"), "dev"),
        (("eval", "verify", "nowhere"), "nowhere"),
        (("eval", "fuse", "a.trec", "--out", "b.trec"), "no fusion"),
        (("eval", "fuse", "a.trec", "c.trec", "--weight", "1", "--out", "b.trec"), "1 weights for 2 runs"),
        (("eval", "fuse", "a.trec", "c.trec", "--out", "b.trec"), "a.trec can't be read"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_a_hint(polyseek, data, arguments, says):
    status, out, err = polyseek(*arguments)
    assert (status, out) == (1, "")
    [error, hint] = err.splitlines()
    assert error.startswith("error: ")
    assert says in error
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_of_a_kind_has_the_options_of_its_reader(kind):
    command = typer.main.get_command(commands.app).commands[kind]
    given = {READ_AS.get(parameter.name, parameter.name) for parameter in command.params}
    every = {READ_AS.get(name, name) for name in commands.CHOICES}
    assert given & every == set(options(kind))


def test_one_dataset_of_each_name_has_a_command():
    assert set(KINDS) <= set(typer.main.get_command(commands.app).commands)
