"""A real process that is asked to end: what runs is answered, what was answered is stored, and it ends as it should."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from retriever.encoder import Encoder
from retriever.root import Root
from tests.service.conftest import NOTES
from tests.service.held import until

SERVE = """
import sys
from retriever.cli import main
from service import server
server.LAST_SECONDS = 0.2
sys.argv = ["polyseek", "serve", "--port", "0", "--root", sys.argv[1]]
main()
"""
REPOSITORY = Path(__file__).parents[2]
BODY = json.dumps({"documents": [{"id": f"late{number}", "text": f"written late {number}"} for number in range(50)]})


@dataclass
class Running:
    process: subprocess.Popen
    port: int
    client: httpx.Client

    def accepts(self) -> bool:
        """Whether a new connection is accepted."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=10).close()
        except OSError:
            return False
        return True

    def ended(self) -> tuple[int, str]:
        """Its status, and what it had logged."""
        status = self.process.wait(60)
        return status, self.process.stderr.read()


class Upload:
    """A PUT of which the client has sent the half."""

    def __init__(self, running: Running) -> None:
        self.socket = socket.create_connection(("127.0.0.1", running.port), timeout=60)
        head = ["PUT /v1/collections/notes/documents HTTP/1.1", f"Host: 127.0.0.1:{running.port}"]
        head += ["Content-Type: application/json", f"Content-Length: {len(BODY)}", "Expect: 100-continue", "", ""]
        self.socket.sendall("\r\n".join(head).encode())
        assert self.socket.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"  # the route reads the body
        self.socket.sendall(BODY[: len(BODY) // 2].encode())

    def finish(self) -> tuple[int, dict]:
        """Send the rest: the answer's status and body."""
        self.socket.sendall(BODY[len(BODY) // 2 :].encode())
        received = b""
        with self.socket:
            while piece := self.socket.recv(65536):
                received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)


@contextmanager
def serve(root: Root, **settings: object) -> Iterator[Running]:
    (root.path / "polyseek.toml").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{SERVE}", str(root.path)],
        cwd=root.path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        port = int(re.search(r"http://127\.0\.0\.1:(\d+)", process.stderr.readline())[1])
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            until(lambda: client.get("/readyz").status_code == 200)
            yield Running(process, port, client)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture
def root(tmp_path) -> Root:
    made = Root(tmp_path / "data")
    with made.create("notes", encoder=Encoder.load("multilingual")) as notes:
        notes.upsert(NOTES)
    return made


def test_a_terminated_service_says_so_answers_on_and_ends_what_runs(root: Root):
    with serve(root, drain_seconds=1, shutdown_seconds=30) as running:
        upload = Upload(running)
        running.process.send_signal(signal.SIGTERM)
        until(lambda: running.client.get("/readyz").status_code == 503)
        assert running.client.get("/readyz").json()["code"] == "not_ready"
        assert running.client.get("/livez").status_code == 200
        found = running.client.post("/v1/collections/notes/search", json={"text": "green tea", "k": 1})
        assert found.json()["hits"][0]["id"] == "tea"
        until(lambda: not running.accepts())
        assert running.process.poll() is None
        status, answer = upload.finish()
        assert (status, answer["added"]) == (200, 50)
        status, log = running.ended()
        assert status == 0
        assert "Traceback" not in log
    with root.open("notes", background=False) as notes:
        assert notes.count() == len(NOTES) + 50
        assert notes.verify().ok


def test_a_put_that_was_answered_outlives_a_kill_and_is_known_when_it_is_sent_again(root: Root):
    documents = "/v1/collections/notes/documents"
    with serve(root) as running:
        put = running.client.put(documents, content=BODY, headers={"Content-Type": "application/json"}).json()
        running.process.kill()
        assert running.ended()[0] == -signal.SIGKILL
    with serve(root) as running:
        asked = {"text": "written late", "mode": "lexical", "k": 100, "min_generation": put["generation"]}
        found = running.client.post("/v1/collections/notes/search", json=asked).json()
        assert {hit["id"] for hit in found["hits"]} >= {f"late{number}" for number in range(50)}
        again = running.client.put(documents, content=BODY, headers={"Content-Type": "application/json"}).json()
        assert (put["added"], again["unchanged"], again["generation"]) == (50, 50, put["generation"])


def test_connections_that_are_kept_are_asked_to_move_on(root: Root):
    with serve(root, drain_seconds=30) as running:
        assert "connection" not in running.client.get("/livez").headers
        running.process.send_signal(signal.SIGTERM)
        until(lambda: running.client.get("/livez").headers.get("connection") == "close")


def test_an_interrupted_service_ends_without_a_wait_and_answers_what_runs(root: Root):
    with serve(root, drain_seconds=600) as running:
        upload = Upload(running)
        running.process.send_signal(signal.SIGINT)
        until(lambda: not running.accepts())
        assert upload.finish()[0] == 200
        assert running.ended()[0] == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_there_and_then(root: Root, second: signal.Signals):
    with serve(root, drain_seconds=600, shutdown_seconds=600) as running, Upload(running).socket:
        running.process.send_signal(signal.SIGTERM)
        until(lambda: running.client.get("/readyz").status_code == 503)
        running.process.send_signal(second)
        assert running.ended()[0] == -second


def test_what_outlasts_its_time_is_given_up_and_nothing_answered_is_lost(root: Root):
    with serve(root, drain_seconds=0, shutdown_seconds=1) as running, root.open("notes", background=False) as notes:
        with notes._store.exclusive():  # so that the write can't end
            upload = Upload(running)
            with upload.socket:
                upload.socket.sendall(BODY[len(BODY) // 2 :].encode())
                until(lambda: running.client.get("/livez").status_code == 200)
                running.process.send_signal(signal.SIGTERM)
                status, log = running.ended()
        assert status == 1
        assert "given up" in log
        assert notes.count() == len(NOTES)
        assert notes.verify().ok
