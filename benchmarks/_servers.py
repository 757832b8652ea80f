"""Servers as processes of their own: the service, a bare route beside it, a rival."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import orjson
from rivals import Failed, Rival, python_of

from retriever.models import cache_folder

POLYSEEK = Path(sys.executable).with_name("polyseek")
STARTING = 180.0
SETTINGS = {name for name in os.environ if name.startswith("POLYSEEK_")} - {"POLYSEEK_CACHE"}
INFINITY = Rival(
    "infinity", "infinity.py",
    ("infinity-emb[server,torch]==0.0.78", "torch==2.13.0", "transformers==4.57.6", "sentence-transformers==3.4.1",
     "numpy==1.26.4", "fastapi==0.165.0", "starlette==1.10.0", "uvicorn==0.32.1"),
)  # fmt: skip


class Server:
    """A server at work on 127.0.0.1, ready when it is made. A context manager. Raises Failed."""

    def __init__(self, command: Sequence[str | Path], *, ready: str, port: int, **variables: str) -> None:
        """ready: the path that answers 200 once it is. variables: of its environment."""
        self.port = port
        self._folder = Path(tempfile.mkdtemp(prefix="polyseek-server-"))
        # A folder of its own and no settings from the environment: what is measured is the defaults.
        kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, env=kept | variables)
        self.pid = self._process.pid
        try:
            self._wait(ready)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and remove its log."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - any JSON
        """The answer, parsed. Raises urllib.error.HTTPError."""
        return orjson.loads(self.bytes(method, path, body))

    def bytes(self, method: str, path: str, body: object = None) -> bytes:
        """The answer's body. Raises urllib.error.HTTPError."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            None if body is None else orjson.dumps(body),
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return bytes(answer.read())

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far, on all cores."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> float:
        """MiB of it that are in memory."""
        return self._status("VmRSS")

    def allocated(self) -> float:
        """MiB that it has allocated; mapped files, which go with each index, don't count."""
        return self._status("RssAnon")

    def _status(self, name: str) -> float:
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    def _wait(self, ready: str) -> None:
        end = time.monotonic() + STARTING
        while self._process.poll() is None and time.monotonic() < end:
            try:
                self.bytes("GET", ready)
            except OSError:  # also an answer that isn't 200
                time.sleep(0.1)
            else:
                return
        lines = (self._folder / "log").read_text("utf-8", "replace").strip().splitlines()
        raise Failed(f"it never was ready: {(lines or ['without a word'])[-1]}")


def polyseek(root: Path, **variables: str) -> Server:
    """The service over the collections of a root. variables: POLYSEEK_… without their prefix, in small letters."""
    port = free_port()
    command: list[str | Path] = [POLYSEEK, "serve", "--root", root, "--port", str(port)]
    named = {f"POLYSEEK_{name.upper()}": value for name, value in variables.items()}
    return Server(command, ready="/readyz", port=port, **named)


def bare(answers: Sequence[bytes], scratch: Path) -> Server:
    """A FastAPI route that answers these bytes: the first to `POST /?0`, the second to `POST /?1`."""
    port, file = free_port(), scratch / "answers.json"
    file.write_bytes(orjson.dumps([answer.decode() for answer in answers]))
    # -P: `service` is the package there, not the benchmark beside it.
    command: list[str | Path] = [sys.executable, "-P", Path(__file__).with_name("_bare.py"), str(port), file]
    return Server(command, ready="/livez", port=port)


def infinity(model: Path) -> Server:
    """infinity-emb as it comes, in its own environment, with float32 and without its cache on disk. Raises Failed."""
    port = free_port()
    python = python_of(INFINITY, cache_folder() / "benchmarks" / "rivals")
    command: list[str | Path] = [
        python.with_name("infinity_emb"), "v2", "--model-id", model, "--served-model-name", "english",
        "--url-prefix", "/v1", "--host", "127.0.0.1", "--port", str(port), "--engine", "torch", "--device", "cpu",
        "--dtype", "float32", "--no-vector-disk-cache", "--log-level", "error",
    ]  # fmt: skip
    silent: Mapping[str, str] = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    return Server(command, ready="/v1/models", port=port, **silent)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
