"""The command line as its users see it: what goes where, with which exit status, and from which setting."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import numpy as np
import pytest
import typer

from retriever import cli
from retriever.commands import configuration
from retriever.commands.search import TOGETHER

POLYSEEK = Path(sys.executable).with_name("polyseek")
RECORDS = [
    {"id": "espresso", "title": "Espresso", "text": "Mahle die Bohnen fein.", "language": "de", "year": 2024},
    {"id": "tea", "title": "Green tea", "text": "Let the water cool down.", "language": "en", "year": 2021},
    {"id": "mate", "title": "Mate", "text": "Never pour boiling water.", "language": "en", "year": 2019},
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty working directory and no settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("POLYSEEK_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def polyseek(capfd):
    """Run a command line in this process: status, standard output, standard error."""

    def run(*arguments):
        status = cli.run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return status, out, err

    return run


def write_vectors(folder, records=RECORDS):
    """A source with ready-made vectors: the unit vectors, so that every similarity is known."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "vectors.npy", np.eye(len(records), 4, dtype=np.float32))
    (folder / "documents.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture
def notes(folder, polyseek):
    """A collection of three documents."""
    status, *_ = polyseek("index", "build", "notes", write_vectors(folder / "source"), "--encoder", "none")
    assert status == 0
    return "notes"


def answers(out):
    return [json.loads(line) for line in out.splitlines()]


def ids(response):
    return [hit["id"] for hit in response["hits"]]


# -- the root


def test_help_takes_less_than_half_a_second_and_imports_no_command(folder):
    code = "import sys; from retriever import cli; cli.run(['--help']); print(*sys.modules, file=sys.stderr)"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    loaded = set(done.stderr.split())
    assert "Build collections and look after them." in done.stdout
    assert not loaded & {"torch", "numpy", "faiss", "fastapi", "retriever.commands.index", "service.commands"}
    assert seconds < 0.5 * slowness()


def slowness():
    """How busy this machine is: a bare interpreter takes 0.02 s on an idle one."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", "pass"], check=True)
    return max(1.0, (time.perf_counter() - started) / 0.02)


@pytest.mark.parametrize("entry_point", list(entry_points(group=cli.ENTRY_POINTS)), ids=lambda each: each.name)
def test_the_summary_of_a_command_is_what_the_command_says_itself(entry_point):
    command = cli.LazyCommand(entry_point)
    assert command.loaded.get_short_help_str(200) == cli.SUMMARIES[entry_point.name]


def every_command():
    commands = typer.main.get_command(cli.app).lazy()
    for name, command in commands.items():
        children = getattr(command.loaded, "commands", None)
        yield from ((name, child) for child in children) if children else [(name,)]


@pytest.mark.parametrize("command", list(every_command()), ids=" ".join)
def test_the_help_of_every_command_shows_an_example(command, polyseek):
    status, out, _ = polyseek(*command, "--help")
    assert status == 0
    assert out.count("polyseek " + " ".join(command)) >= 2  # its usage and an example


def test_a_mistyped_command_is_wrong_usage_and_names_the_nearest(polyseek):
    status, out, err = polyseek("serch", "notes")
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        "error: No such command 'serch'. Did you mean 'search', 'serve'?",
        "hint: polyseek --help",
    ]


def test_a_mistyped_option_is_wrong_usage_and_its_help_is_named(polyseek):
    status, _, err = polyseek("search", "notes", "--mod", "dense")
    assert status == 2
    assert err.splitlines()[-1] == "hint: polyseek search --help"


@pytest.mark.parametrize(("arguments", "named"), [((), "polyseek"), (("index",), "polyseek index")])
def test_without_a_command_it_is_wrong_usage(arguments, named, polyseek):
    status, out, err = polyseek(*arguments)
    assert (status, out) == (2, "")
    assert err.splitlines() == ["error: Missing command.", f"hint: {named} --help"]


def test_an_error_is_one_line_and_its_hint_another(polyseek):
    status, out, err = polyseek("index", "info", "nothing")
    assert (status, out) == (1, "")
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "hint"]
    assert "nothing" in err


def test_debug_shows_the_traceback_of_an_error(polyseek):
    _, _, plain = polyseek("index", "info", "nothing")
    _, _, err = polyseek("index", "info", "nothing", "--debug")
    assert "Traceback" not in plain
    assert "Traceback" in err and err.splitlines()[-2:] == plain.splitlines()


def test_an_unforeseen_error_is_one_line_too(polyseek, monkeypatch):
    entry_point = EntryPoint("broken", "json:loads_nothing", cli.ENTRY_POINTS)
    monkeypatch.setattr(cli, "entry_points", lambda group: [entry_point])
    status, _, err = polyseek("broken")
    assert status == 1
    assert len(err.splitlines()) == 2 and "--debug" in err


# -- settings


def test_a_flag_wins_over_the_environment_and_that_over_the_file_and_that_over_the_default(
    polyseek, notes, monkeypatch
):
    def found(*flags):
        _, out, _ = polyseek("search", notes, "water", "--mode", "lexical", "--json", *flags)
        return len(answers(out)[0]["hits"])

    assert found() == 2
    Path("polyseek.toml").write_text("k = 1")
    assert found() == 1
    monkeypatch.setenv("POLYSEEK_K", "2")
    assert found() == 2
    assert found("-k", "1") == 1


def test_a_setting_in_the_file_is_the_same_for_every_command(polyseek, notes, folder):
    Path("polyseek-data").rename("elsewhere")
    Path("polyseek.toml").write_text('root = "elsewhere"')
    assert answers(polyseek("index", "list", "--json")[1])[0]["name"] == notes
    assert polyseek("search", notes, "water", "--mode", "lexical")[0] == 0
    assert 'root = "elsewhere"' in polyseek("serve", "--print-config")[1]


def test_an_unknown_setting_is_refused_with_the_nearest_known_one(polyseek):
    Path("polyseek.toml").write_text("encodr = 'english'")
    status, _, err = polyseek("index", "list")
    assert status == 1
    assert err.splitlines() == ["error: polyseek.toml: unknown setting encodr", "hint: did you mean encoder?"]


def test_a_setting_of_another_command_is_left_alone(polyseek):
    Path("polyseek.toml").write_text("port = 9000\nmax_body_bytes = 100000\nk = 3")
    assert polyseek("index", "list")[0] == 0


def test_a_file_that_is_not_toml_is_named(polyseek):
    Path("polyseek.toml").write_text("root = [")
    status, _, err = polyseek("index", "list")
    assert status == 1
    assert err.startswith("error: polyseek.toml is not TOML")


def test_every_option_with_a_variable_is_a_setting_of_the_same_name():
    for command in typer.main.get_command(cli.app).lazy().values():
        for part in configuration.walk(command.loaded):
            for setting, parameter in configuration.settings(part).items():
                assert parameter.rstrip("_") == setting


# -- index


def test_a_build_reports_what_it_did_and_the_second_changes_nothing(polyseek, notes, folder):
    status, out, _ = polyseek("index", "build", notes, folder / "source", "--json")
    assert status == 0
    [summary] = answers(out)
    assert (summary["documents"], summary["unchanged"], summary["added"]) == (3, 3, 0)


def test_a_build_writes_what_it_could_not_use_and_goes_on(polyseek, folder):
    source = folder / "notes.jsonl"
    source.write_text(json.dumps({"id": "a", "text": "x"}) + "\nno json\n" + json.dumps({"text": "no id"}) + "\n")
    status, _, err = polyseek(
        "index", "build", "notes", source, "--encoder", "english", "--rejects", folder / "rejects.jsonl"
    )
    assert status == 0
    assert [reject["line"] for reject in answers((folder / "rejects.jsonl").read_text())] == [2, 3]
    assert "2 records left out" in err


def test_a_strict_build_stops_at_the_first_bad_record(polyseek, folder):
    (folder / "notes.jsonl").write_text("no json\n")
    status, out, err = polyseek("index", "build", "notes", folder / "notes.jsonl", "--encoder", "none", "--strict")
    assert (status, out) == (1, "")
    assert "line 1" in err


def test_a_build_prunes_what_its_sources_no_longer_hold(polyseek, notes, folder):
    write_vectors(folder / "source", RECORDS[:2])
    _, out, _ = polyseek("index", "build", notes, folder / "source", "--prune", "--json")
    assert (answers(out)[0]["removed"], answers(out)[0]["documents"]) == (1, 2)


def test_documents_are_deleted_by_id_or_by_filter(polyseek, notes):
    assert answers(polyseek("index", "delete", notes, "--id", "tea", "--json")[1])[0]["deleted"] == 1
    assert answers(polyseek("index", "delete", notes, "--filter", "year<2020", "--json")[1])[0]["deleted"] == 1
    assert polyseek("index", "delete", notes)[0] == 2
    assert answers(polyseek("index", "info", notes, "--json")[1])[0]["documents"] == 1


def test_the_list_shows_every_collection_with_its_aliases(polyseek, notes):
    assert polyseek("index", "alias", "live", notes)[0] == 0
    [row] = answers(polyseek("index", "list", "--json")[1])
    assert (row["name"], row["documents"], row["aliases"]) == (notes, 3, ["live"])
    _, out, _ = polyseek("index", "list")
    assert re.search(r"notes\s+3\s", out)
    assert polyseek("index", "alias", "live", "--remove")[0] == 0
    assert answers(polyseek("index", "list", "--json")[1])[0]["aliases"] == []


def test_verify_passes_a_sound_collection_and_fails_a_damaged_one(polyseek, notes):
    assert polyseek("index", "verify", notes)[0] == 0
    database = Path("polyseek-data", notes, "collection.sqlite")
    content = bytearray(database.read_bytes())
    content[8192:12288] = bytes(4096)
    database.write_bytes(content)
    status, _, err = polyseek("index", "verify", notes)
    assert status == 1
    assert err.startswith("error: ")


def test_optimize_keeps_the_answers(polyseek, notes):
    before = answers(polyseek("search", notes, "water", "--mode", "lexical", "--json")[1])
    assert polyseek("index", "optimize", notes)[0] == 0
    after = answers(polyseek("search", notes, "water", "--mode", "lexical", "--json")[1])
    assert ids(before[0]) == ids(after[0]) != []


def test_a_dropped_collection_is_gone(polyseek, notes):
    assert polyseek("index", "drop", notes)[0] == 0
    assert polyseek("index", "info", notes)[0] == 1
    assert polyseek("index", "list", "--json")[1] == ""


def test_a_snapshot_is_restored_under_another_root_and_name(polyseek, notes):
    status, out, _ = polyseek("index", "snapshot", notes, "notes.snapshot", "--json")
    assert (status, answers(out)[0]["documents"]) == (0, 3)
    status, out, _ = polyseek("index", "restore", "notes.snapshot", "again", "--root", "elsewhere", "--json")
    assert (status, answers(out)[0]["collection"], answers(out)[0]["snapshot_of"]) == (0, "again", notes)
    here, there = (
        answers(polyseek("search", name, "water", "--mode", "lexical", "--json", "--root", root)[1])[0]["hits"]
        for name, root in ((notes, "polyseek-data"), ("again", "elsewhere"))
    )
    assert here == there != []
    status, _, err = polyseek("index", "restore", "source/vectors.npy", "more")
    assert status == 1
    assert re.search(r"error: source/vectors.npy is no snapshot.*\nhint: ", err)


def test_an_export_is_built_again_with_its_vectors(polyseek, notes):
    assert answers(polyseek("index", "export", notes, "out", "--vectors", "--json")[1])[0]["vectors"] == 3
    _, out, _ = polyseek("index", "build", notes, "out", "--encoder", "none", "--prune", "--json")
    assert (answers(out)[0]["unchanged"], answers(out)[0]["removed"]) == (3, 0)
    assert polyseek("index", "export", notes, "out.jsonl")[0] == 0
    assert [json.loads(line)["id"] for line in Path("out.jsonl").read_text().splitlines()] == [
        "espresso", "tea", "mate",
    ]  # fmt: skip


def test_a_migrated_collection_is_searched_by_its_new_encoder(polyseek, notes):
    Path("queries.txt").write_text("cold water\n")
    status, _, err = polyseek("index", "migrate", notes, "--encoder", "multilingual", "--queries", "queries.txt")
    assert status == 1
    assert "has no encoder whose answers could be compared" in err
    status, out, _ = polyseek("index", "migrate", notes, "--encoder", "multilingual")
    assert status == 0
    assert out.startswith("notes: 3 documents, 3 encoded with multilingual (was without encoder)")
    [response] = answers(polyseek("search", notes, "tea", "--mode", "dense", "--json")[1])
    assert ids(response)[0] == "tea"


# -- search


def test_hits_go_to_standard_output_with_title_language_score_and_passage(polyseek, notes):
    status, out, err = polyseek("search", notes, "boiling water", "--mode", "lexical", "-k", "1")
    assert (status, err) == (0, "")
    assert re.match(r" 1  Mate  mate  en  \d+\.\d{4}\n    Never pour boiling water\.\n", out)


def test_json_is_the_response_object_of_rest(polyseek, notes):
    _, out, _ = polyseek("search", notes, "water", "--mode", "lexical", "--json")
    [response] = answers(out)
    assert (response["collection"], response["mode"]) == ("notes", "lexical")
    assert set(response["hits"][0]) == {"rank", "id", "score", "scores", "document", "unit", "highlights"}


def test_filters_are_anded(polyseek, notes):
    search = ("search", notes, "water", "--mode", "lexical", "--json", "--filter", "language=en")
    assert sorted(ids(answers(polyseek(*search)[1])[0])) == ["mate", "tea"]
    assert ids(answers(polyseek(*search, "--filter", "year>=2020")[1])[0]) == ["tea"]


def test_like_finds_others_than_the_document_itself(polyseek, notes):
    _, out, _ = polyseek("search", notes, "--like", "tea", "--json")
    assert sorted(ids(answers(out)[0])) == ["espresso", "mate"]


def test_a_dash_answers_one_query_a_line_in_order(polyseek, notes, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"boiling\n\nBohnen\n")))
    status, out, _ = polyseek("search", notes, "-", "--mode", "lexical", "--json")
    assert status == 0
    assert [ids(response) for response in answers(out)] == [["mate"], ["espresso"]]


def test_a_query_that_fails_keeps_its_line_and_the_others_are_answered(polyseek, notes, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"boiling\nwater\n")))
    status, out, err = polyseek("search", notes, "-", "--mode", "dense", "--json")
    assert status == 1
    assert [line["code"] for line in answers(out)] == ["invalid_request"] * 2
    assert "2 of 2 queries" in err


def test_nothing_to_search_for_is_an_error(polyseek, notes):
    status, _, err = polyseek("search", notes)
    assert status == 1
    assert "nothing to search for" in err


def test_no_hits_leave_standard_output_empty(polyseek, notes):
    status, out, err = polyseek("search", notes, "zeppelin", "--mode", "lexical")
    assert (status, out) == (0, "")
    assert "No hits" in err


def test_an_interrupted_command_ends_with_130(notes):
    process = subprocess.Popen(
        # A shell starts what runs in its background with interrupts ignored, tests too.
        ["env", "--default-signal=INT", POLYSEEK, "search", notes, "-", "--mode", "lexical", "--json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdin.write("water\n" * TOGETHER)
    process.stdin.flush()
    for _ in range(TOGETHER):
        process.stdout.readline()
    # It has answered them all, and waits for more lines.
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.startswith("error: interrupted")


# -- documentation


def sections():
    """docs/command-line.md by command: its words -> its section."""
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    parts = re.split(r"^## ", page, flags=re.MULTILINE)
    return parts[0] + parts[1] + parts[2], {
        tuple(re.match(r"polyseek((?: [a-z][a-z0-9-]*)+)", part)[1].split()): part
        for part in parts
        if part.startswith("polyseek ")
    }


@pytest.mark.parametrize("command", list(every_command()), ids=" ".join)
def test_the_page_of_the_command_line_has_every_option_and_variable(command):
    general, documented = sections()
    general += documented.get(command[:-1], "")
    part = typer.main.get_command(cli.app).lazy()[command[0]].loaded
    for name in command[1:]:
        part = part.commands[name]
    for parameter in part.params:
        names = [name for name in parameter.opts if name.startswith("-")]
        missing = [
            name for name in [*names, *filter(None, [parameter.envvar])] if name not in documented[command] + general
        ]
        assert missing == []
