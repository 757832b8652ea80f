"""Load for an HTTP server, made in a process of its own: raw sockets and `select` on one thread, kept connections.

A closed loop has so many clients, each of which asks again when it was answered: it finds the capacity. An open loop
asks at moments of its own (Poisson), and counts an answer's latency from the moment at which its request was due: a
server that stalls delays no request that would have met the stall (no coordinated omission).

Every answer is looked at: its status, what it must hold, and that no generation is older than one that was answered
before the request went out.
"""

import itertools
import multiprocessing
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Self

import numpy as np

CHUNK = 1 << 18
# Without an answer for so long, a request has failed.
PATIENCE = 60.0
# A free connection that waited longer isn't used again: the server may be about to close it (uvicorn: after 5 s).
KEPT = 3.0
# Connections of an open loop; more would be of no use to a server that is so far behind, and `select` takes 1,024.
MOST = 512
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
GENERATION = re.compile(rb'"generation":(\d+)')
CODE = re.compile(rb'"code":"(\w+)"')
# The start of a search's answer, where its generation is.
START = 200


@dataclass(frozen=True, slots=True)
class Request:
    """raw: as it is sent. expected: what the body of a right answer holds, in these bytes."""

    raw: bytes
    expected: bytes = b""


def request(method: str, path: str, body: bytes = b"", expected: bytes = b"") -> Request:
    """One with a JSON body; path: percent-encoded."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return Request(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body, expected)


@dataclass(slots=True)
class Target:
    """A server and what it is asked, in turn; `at` goes on from one run to the next."""

    port: int
    requests: Sequence[Request]
    at: int = 0


@dataclass(slots=True)
class Outcome:
    """What came of a run.

    latencies: seconds of each right answer. failed: how many went wrong how; example: the first of them. seconds: how
    long it ran. busy: the share of it in which the generator itself was at work. late: seconds that requests went out
    behind their time, the 99th percentile.
    """

    latencies: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    example: str = ""
    seconds: float = 0.0
    busy: float = 0.0
    late: float = 0.0

    @property
    def rate(self) -> float:
        """Right answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Milliseconds; NaN where nothing was answered."""
        return float(np.percentile(self.latencies, share)) * 1e3 if self.latencies else float("nan")

    def facts(self) -> dict[str, object]:
        """For people and programs: milliseconds and answers a second."""
        times = {f"p{share}_ms": self.percentile(share) for share in (50, 95, 99)}
        return {"per_second": self.rate, **times, "answers": len(self.latencies), "failed": dict(self.failed)}

    def __add__(self, other: "Outcome") -> "Outcome":
        """Both runs, one after the other."""
        return Outcome(
            self.latencies + other.latencies,
            self.failed + other.failed,
            self.example or other.example,
            self.seconds + other.seconds,
            max(self.busy, other.busy),
            max(self.late, other.late),
        )


class Generator:
    """The process. A context manager; one run at a time."""

    def __enter__(self) -> Self:
        # Not forked: a copy of a process that has threads may hang.
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def closed(self, target: Target, clients: int, seconds: float) -> Outcome:
        """So many clients, each of which asks again when it was answered."""
        return self._moved_on(target, self._pool.submit(_closed, target, clients, seconds))

    def open(self, target: Target, rate: float, seconds: float) -> Outcome:
        """`rate` requests a second on average, whatever the server does."""
        return self._moved_on(target, self.opening(target, rate, seconds))

    def opening(self, target: Target, rate: float, seconds: float) -> Future[tuple[Outcome, int]]:
        """The same, beside the caller; what it answers is for `open`'s outcome, and where it ended."""
        return self._pool.submit(_open, target, rate, seconds)

    def turns(self, first: Target, second: Target, rounds: int) -> tuple[Outcome, Outcome]:
        """One client that asks one and then the other, `rounds` times."""
        return self._pool.submit(_turns, first, second, rounds).result()

    def _moved_on(self, target: Target, run: Future[tuple[Outcome, int]]) -> Outcome:
        outcome, target.at = run.result()
        return outcome


# -- in the process


class _Client:
    """A connection, on which one request is under way at a time. since: when its latency began; answered: ended."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._body = self._end = 0

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, asked: Request, since: float, newest: int) -> None:
        """newest: the generation that its answer must have reached."""
        self.asked, self.since, self.newest = asked, since, newest
        self.socket.sendall(asked.raw)

    def receive(self) -> tuple[int, bytes] | None:
        """Status and body, once they are whole. Blocks where nothing has come. Raises OSError."""
        part = self.socket.recv(CHUNK)
        if not part:
            raise ConnectionError("closed")
        self._buffer += part
        if not self._end and not self._head():
            return None
        if len(self._buffer) < self._end:
            return None
        answer = int(self._buffer[9:12]), bytes(self._buffer[self._body : self._end])
        del self._buffer[: self._end]
        self._body = self._end = 0
        self.answered = time.perf_counter()
        return answer

    def _head(self) -> bool:
        """Whether the head is whole; then it says where the answer ends."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        length = LENGTH.search(self._buffer, 0, end)
        if length is None:
            raise ConnectionError("an answer without Content-Length")
        self._body = end + 4
        self._end = self._body + int(length[1])
        return True


class _Run:
    """What goes out to one target, and what came of it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.outcome = Outcome()
        self.at = target.at
        self.newest = 0
        self.started, self._worked = time.perf_counter(), time.process_time()

    def client(self) -> _Client:
        return _Client(self.target.port)

    def send(self, client: _Client, since: float) -> None:
        asked = self.target.requests[self.at % len(self.target.requests)]
        self.at += 1
        client.send(asked, since, self.newest)

    def take(self, client: _Client) -> bool:
        """Take in what has come on a connection; whether its request is answered."""
        try:
            answer = client.receive()
        except OSError as error:
            client.socket.close()
            self.fail(f"connection: {error}", client.asked, b"")
            return True
        if answer is None:
            return False
        self._judge(client, *answer)
        return True

    def _judge(self, client: _Client, status: int, body: bytes) -> None:
        found = GENERATION.search(body, 0, START)
        generation = int(found[1]) if found else client.newest
        self.newest = max(self.newest, generation)
        if status != 200:
            code = CODE.search(body)
            self.fail(f"{status} {code[1].decode() if code else ''}".strip(), client.asked, body)
        elif client.asked.expected not in body:
            self.fail("wrong answer", client.asked, body)
        elif generation < client.newest:
            self.fail(f"generation {generation} after {client.newest}", client.asked, body)
        else:
            self.outcome.latencies.append(client.answered - client.since)

    def fail(self, how: str, asked: Request, body: bytes) -> None:
        self.outcome.failed[how] += 1
        self.outcome.example = self.outcome.example or f"{how}: {asked.raw[-300:]!r} was answered {body[:600]!r}"

    def end(self) -> tuple[Outcome, int]:
        """What came of it, and where the next run goes on."""
        self.outcome.seconds = time.perf_counter() - self.started
        self.outcome.busy = (time.process_time() - self._worked) / self.outcome.seconds
        return self.outcome, self.at


class _Clients:
    """The connections of a run: those on which an answer is awaited, and those that are free."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.free: list[_Client] = []
        self.asking: set[_Client] = set()

    def send(self, since: float) -> None:
        client = self._client()
        self.asking.add(client)
        self.run.send(client, since)

    def _client(self) -> _Client:
        while self.free:
            client = self.free.pop()
            if time.perf_counter() - client.answered < KEPT:
                return client
            client.socket.close()
        return self.run.client()

    def collect(self, timeout: float) -> int:
        """How many were answered, waiting so many seconds for the first. `epoll` would wait whole milliseconds."""
        readable = select.select(self.asking, [], [], max(0.0, timeout))[0]
        answered = [client for client in readable if self.run.take(client)]
        self.asking.difference_update(answered)
        self.free += [client for client in answered if client.fileno() >= 0]
        return len(answered)

    def drain(self) -> None:
        """Wait for what is under way."""
        end = time.perf_counter() + PATIENCE
        while self.asking and (now := time.perf_counter()) < end:
            self.collect(end - now)
        for client in self.asking:
            self.run.fail(f"no answer within {PATIENCE:g} s", client.asked, b"")


def _closed(target: Target, clients: int, seconds: float) -> tuple[Outcome, int]:
    run = _Run(target)
    connections = _Clients(run)
    for _ in range(clients):
        connections.send(time.perf_counter())
    end = run.started + seconds
    while (now := time.perf_counter()) < end:
        for _ in range(connections.collect(end - now)):
            connections.send(time.perf_counter())
    # What is under way counts, and its time: left out, a slow server would lose more of its answers than a fast one.
    connections.drain()
    return run.end()


def _open(target: Target, rate: float, seconds: float) -> tuple[Outcome, int]:
    run = _Run(target)
    connections = _Clients(run)
    gaps = np.random.default_rng(target.at).exponential(1 / rate, int(rate * seconds))
    due: list[float] = (run.started + np.cumsum(gaps)).tolist()
    late = []
    for since in due:
        while (now := time.perf_counter()) < since:
            connections.collect(since - now)
        if not connections.free:
            connections.collect(0.0)
        while not connections.free and len(connections.asking) >= MOST:
            connections.collect(PATIENCE)
        late.append(time.perf_counter() - since)
        connections.send(since)
    connections.drain()
    outcome, at = run.end()
    outcome.late = float(np.percentile(late, 99)) if late else 0.0
    return outcome, at


def _turns(first: Target, second: Target, rounds: int) -> tuple[Outcome, Outcome]:
    runs = [_Run(first), _Run(second)]
    pairs = [(run, run.client()) for run in runs]
    for run, client in itertools.chain.from_iterable(itertools.repeat(pairs, rounds)):
        run.send(client, time.perf_counter())
        while not run.take(client):
            pass
    return runs[0].end()[0], runs[1].end()[0]
