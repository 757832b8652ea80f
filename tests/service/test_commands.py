import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
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


def test_every_setting_is_printed_with_its_sentence_and_a_key_is_not_shown(tmp_path: Path):
    text = polyseek(tmp_path, "serve", "--print-config", POLYSEEK_API_KEY="s3cret").stdout
    for name, field in Settings.model_fields.items():
        assert f"# {field.description}\n" in text
        assert name in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["--host", "0.0.0.0"], {}, ["0.0.0.0", "POLYSEEK_API_KEY"]),
        (["--host", "0.0.0.0"], {"POLYSEEK_API_KEY": ""}, ["0.0.0.0", "POLYSEEK_API_KEY"]),
        (["--host", "example.org"], {}, ["example.org"]),
        ([], {"POLYSEEK_PORT": "many"}, ["port", "'many'", "POLYSEEK_PORT"]),
        ([], {"POLYSEEK_THREADS": "0"}, ["threads", "'0'"]),
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


def test_serve_prints_its_address_answers_and_ends_when_asked(root: Root, tmp_path: Path):
    process = subprocess.Popen(
        [*POLYSEEK, "serve", "--port", "0", "--root", str(root.path)], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        address = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        assert address is not None
        answer = httpx.post(f"{address[0]}/v1/collections/axes/search", json={"text": "cloud"}, timeout=30)
        assert [hit["id"] for hit in answer.json()["hits"]] == ["axis2"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
