import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from retriever.root import Root
from service.server import listen
from service.settings import Settings

POLYSEEK = [sys.executable, "-c", "from retriever.cli import main; main()"]


def polyseek(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [*POLYSEEK, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def printed(folder: Path, *arguments: str, **variables: str) -> dict[str, object]:
    return tomllib.loads(polyseek(folder, "serve", "--print-config", *arguments, **variables).stdout)


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(tmp_path: Path):
    assert printed(tmp_path)["port"] == 8000
    (tmp_path / "polyseek.toml").write_text('port = 8001\nhost = "localhost"\n')
    assert printed(tmp_path)["port"] == 8001
    assert printed(tmp_path, POLYSEEK_PORT="8002")["port"] == 8002
    assert printed(tmp_path, "--port", "8003", POLYSEEK_PORT="8002")["port"] == 8003
    assert printed(tmp_path)["host"] == "localhost"


def test_the_printed_settings_are_a_file_that_gives_the_same_settings(tmp_path: Path):
    first = polyseek(tmp_path, "serve", "--print-config", "--port", "9").stdout
    (tmp_path / "polyseek.toml").write_text(first)
    assert polyseek(tmp_path, "serve", "--print-config").stdout == first


def test_every_kind_of_value_is_printed_as_it_is_read(tmp_path: Path):
    (tmp_path / "polyseek.toml").write_text(
        'rate_limit = 7\nmax_timeout = 2.5\nlog_queries = true\ncors_origins = ["https://a.example", "*"]\n'
        'encoders = []\nmemory = "4GiB"\nreranker = "./a \\"model\\" \\\\ ü"\n'
    )
    first = polyseek(tmp_path, "serve", "--print-config")
    facts = tomllib.loads(first.stdout)
    assert (facts["rate_limit"], facts["max_timeout"], facts["log_queries"]) == (7, 2.5, True)
    assert (facts["cors_origins"], facts["encoders"]) == (["https://a.example", "*"], [])
    assert (facts["memory"], facts["reranker"]) == (4 << 30, './a "model" \\ ü')
    (tmp_path / "polyseek.toml").write_text(first.stdout)
    assert polyseek(tmp_path, "serve", "--print-config").stdout == first.stdout


def test_a_list_in_the_environment_is_separated_by_commas(tmp_path: Path):
    variables = {"POLYSEEK_ENCODERS": "english, ./mine", "POLYSEEK_CORS_ORIGINS": "https://a.example"}
    facts = printed(tmp_path, **variables)
    assert (facts["encoders"], facts["cors_origins"]) == (["english", "./mine"], ["https://a.example"])


def test_a_bad_value_says_which_source_it_comes_from(tmp_path: Path):
    (tmp_path / "polyseek.toml").write_text('queue = "long"\nport = 1\n')
    for arguments, variables, source in (
        ([], {}, "polyseek.toml"),
        ([], {"POLYSEEK_QUEUE": "0"}, "POLYSEEK_QUEUE"),
        (["--port", "70000"], {"POLYSEEK_PORT": "2"}, "the flag --port"),
    ):
        ended = polyseek(tmp_path, "serve", *arguments, **variables)
        assert ended.returncode == 1
        assert ended.stderr.endswith(f"\nhint: it comes from {source}\n")


def test_every_setting_is_printed_with_its_sentence_and_a_key_is_not_shown(tmp_path: Path):
    text = polyseek(tmp_path, "serve", "--print-config", POLYSEEK_API_KEY="s3cret").stdout
    for name, field in Settings.model_fields.items():
        assert f"# {field.description}\n" in text
        assert name in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["--host", "0.0.0.0"], {}, ["0.0.0.0", "POLYSEEK_API_KEY", "polyseek keys new"]),
        (["--host", "0.0.0.0"], {"POLYSEEK_API_KEY": ""}, ["0.0.0.0", "POLYSEEK_API_KEY"]),
        (["--host", "example.org"], {}, ["example.org"]),
        ([], {"POLYSEEK_PORT": "many"}, ["port", "'many'", "POLYSEEK_PORT"]),
        ([], {"POLYSEEK_THREADS": "0"}, ["threads", "'0'"]),
        ([], {"POLYSEEK_MAX_TIMEOUT": "inf"}, ["max_timeout", "'inf'"]),
        ([], {"POLYSEEK_LOG_LEVEL": "loud"}, ["log_level", "'loud'", "'debug'"]),
        ([], {"POLYSEEK_CORS_ORIGINS": "https://a.example/"}, ["cors_origins", "https://example.org"]),
        ([], {"POLYSEEK_CORS_ORIGINS": "a.example"}, ["cors_origins", "'a.example'"]),
    ],
)
def test_settings_that_cannot_be_used_are_refused_with_a_hint(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], words: list[str]
):
    ended = polyseek(tmp_path, "serve", *arguments, **variables)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"error: .*\nhint: .*\n", ended.stderr)
    assert all(word in ended.stderr for word in words), ended.stderr


def test_a_port_that_is_taken_is_said(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = polyseek(tmp_path, "serve", "--port", port)
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "--port" in ended.stderr


def test_answers_do_not_wait_for_the_clients_acknowledgement():
    with listen(Settings(port=0)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@contextmanager
def served(root: Root, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`polyseek serve` as a process of its own, and its address."""
    process = subprocess.Popen(
        [*POLYSEEK, "serve", "--port", "0", "--root", str(root.path)],
        cwd=folder,
        env={**os.environ, "POLYSEEK_LOG_LEVEL": "warning", "POLYSEEK_DRAIN_SECONDS": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert address is not None
        yield process, address[0]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_serve_prints_its_address_answers_and_ends_when_asked(root: Root, tmp_path: Path):
    with served(root, tmp_path) as (process, address):
        answer = httpx.post(f"{address}/v1/collections/axes/search", json={"text": "cloud"}, timeout=30)
        assert [hit["id"] for hit in answer.json()["hits"]] == ["axis2"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_headers_without_an_end_are_refused(root: Root, tmp_path: Path):
    with served(root, tmp_path) as (_, address):
        url = httpx.URL(address)
        with socket.create_connection((url.host, url.port), timeout=30) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nX-Long: " + b"x" * 200_000)
            assert connection.recv(12) == b"HTTP/1.1 400"


def test_a_key_is_made_before_others_can_reach_the_service(root: Root, tmp_path: Path):
    there = ("--root", str(root.path))
    refused = polyseek(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", *there)
    assert refused.returncode == 1
    assert "polyseek keys new" in refused.stderr
    made = polyseek(tmp_path, "keys", "new", *there)
    assert made.returncode == 0
    (root.path / "keys.json").write_text("{")
    damaged = polyseek(tmp_path, "serve", "--port", "0", *there)
    assert damaged.returncode == 1
    assert re.fullmatch(r"error: keys.json is damaged: .*\nhint: .*\n", damaged.stderr)
