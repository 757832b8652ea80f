"""Minutes of searches at half the capacity, while the collection is written to and its index replaced.

    searches   whose best hit is known, hybrid, dense and by words, at random moments
    writes     every second: documents put, found, read, deleted, not found any more, each search with the generation
               that the write answered as `min_generation`
    optimize   `polyseek index optimize` in a process of its own, every 20 seconds: the index and its columns are built
               anew and switched, which the service takes up
    watch      every second: /readyz, and the memory that the service has allocated

What is written is about other things than what is searched for, and goes again, so that no right answer changes and
nothing grows for a reason. Memory is flat where the straight line through the second half of its samples (least
squares) rises by no more than twice what they scatter around it (standard deviation), or by 1% of their mean.
"""

import subprocess
import time
import urllib.error
import urllib.parse
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import emoji
import numpy as np
import orjson
from _demo import Known, search_for
from _load import Generator, Outcome, Request, Target
from _report import Report
from _servers import POLYSEEK, Server, polyseek

NAME = "code"
CLIENTS = 32
SHARE = 0.5
WRITE_EVERY, OPTIMIZE_EVERY, WATCH_EVERY = 1.0, 20.0, 1.0
# Documents of a put. So many puts later the same ids come again.
PUT, SLOTS = 10, 20
FLAT_SHARE = 0.01
LETTERS = str.maketrans("0123456789", "bcdfghjkmp")
Check = Callable[[], None]


class Wrong(Exception):
    """An answer that isn't the right one; the message says how."""


@dataclass(slots=True)
class Tally:
    """What somebody beside the searches did. samples: (seconds, MiB) of the watch."""

    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[float, float]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def every(self, seconds: float, stop: Event, step: Check) -> "Tally":
        """Take a step every so many seconds until the end, and count those that failed."""
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + seconds, time.monotonic())
            self.done += 1
            try:
                step()
            except urllib.error.HTTPError as error:
                self.failed[f"{error.code} {error.url}: {error.read()[:300]!r}"] += 1
            except (OSError, Wrong) as error:
                self.failed[str(error)] += 1
        return self


def soak(root: Path, items: Sequence[Known], generator: Generator, report: Report, minutes: float) -> None:
    """All of it on a copy of the demo's `code` in `root`, which is changed."""
    _optimize(root, "--kind", "rabitq")  # an index that is a file of its own, which the demo's size doesn't need
    with polyseek(root, query_cache="256") as server:
        target = Target(server.port, _searches(items))
        generator.closed(target, CLIENTS, 3.0)
        rate = SHARE * generator.closed(target, CLIENTS, 10.0).rate
        report.say(f"{minutes:g} minutes of {rate:.0f} searches/s, writes and replaced indices beside them:")
        run, others = _together(server, root, generator.opening(target, rate, minutes * 60))
    _tell(report, run, others)
    whole = subprocess.run([POLYSEEK, "index", "verify", NAME, "--root", root], check=False, capture_output=True)
    report.goal("soak", "damage that `index verify` finds afterwards", whole.returncode, 0)


def _searches(items: Sequence[Known]) -> list[Request]:
    modes = ("hybrid", "dense", "lexical")
    return [search_for(NAME, {"text": item.text, "mode": modes[i % 3]}, item.id) for i, item in enumerate(items)]


def _together(server: Server, root: Path, searching: Future[tuple[Outcome, int]]) -> tuple[Outcome, dict[str, Tally]]:
    """What came of the searches and, by name, of what went on beside them."""
    stop = Event()
    writer, watch, builds = Writer(server), Watch(server), Builds(root)
    with ThreadPoolExecutor(3) as pool:
        others = {
            "writes": pool.submit(Tally().every, WRITE_EVERY, stop, writer.step),
            "watch": pool.submit(watch.tally.every, WATCH_EVERY, stop, watch.step),
            "optimize": pool.submit(builds.tally.every, OPTIMIZE_EVERY, stop, builds.step),
        }
        try:
            run, _ = searching.result()
        finally:
            stop.set()
        return run, {name: each.result() for name, each in others.items()}


class Writer:
    """Puts documents and takes them away again. step: one round, every part of it checked."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.rounds = 0
        self.generation = 0
        # Of another world than the library's docstrings, so that they are near none of the searches.
        self._names = [entry["en"].strip(":").replace("_", " ") for entry in emoji.EMOJI_DATA.values()]

    def step(self) -> None:
        """Raises Wrong, urllib.error.HTTPError."""
        self.rounds += 1
        records = [self._record(place) for place in range(PUT)]
        put = self._write("PUT", "documents", {"documents": records})
        if put["added"] + put["updated"] != PUT or put["rejected"]:
            raise Wrong(f"a put answered {put}")
        for record in records[:2]:
            self._found(record, "dense", record["text"])
            self._found(record, "lexical", record["text"].split()[-1])
        self._read(records[0])
        first = urllib.parse.quote(records[0]["id"], safe="")
        self._write("DELETE", f"documents/{first}")
        rest = self._write("POST", "documents/delete", {"ids": [record["id"] for record in records[1:]]})
        if rest["deleted"] != PUT - 1:
            raise Wrong(f"a deletion answered {rest}")
        self._gone(records[0])

    def _record(self, place: int) -> dict[str, str]:
        name = self._names[(self.rounds * PUT + place) % len(self._names)]
        # A word that no other document has ever had; of letters, since digits are words by themselves.
        word = f"zq{self.rounds * PUT + place}".translate(LETTERS)
        return {
            "id": f"soak/{self.rounds % SLOTS}-{place}",
            "text": f"{name} {word}",
            "language": "en",
        }

    def _write(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - any JSON
        answer = self.server.ask(method, f"/v1/collections/{NAME}/{path}", body)
        if answer["generation"] <= self.generation:
            raise Wrong(f"generation {answer['generation']} of a write after {self.generation}")
        self.generation = answer["generation"]
        return answer

    def _search(self, text: str, mode: str) -> list[Any]:
        body = {"text": text, "mode": mode, "min_generation": self.generation}
        answer = self.server.ask("POST", f"/v1/collections/{NAME}/search", body)
        if answer["generation"] < self.generation:
            raise Wrong(f"generation {answer['generation']} where {self.generation} was asked for")
        return list(answer["hits"])

    def _found(self, record: dict[str, str], mode: str, text: str) -> None:
        """By its whole text its cosine is 1, by the word that it alone has nothing else is found."""
        hits = self._search(text, mode)
        if not hits or hits[0]["id"] != record["id"]:
            raise Wrong(f"{mode}: {record['text']!r} was put and found {[hit['id'] for hit in hits[:3]]}")

    def _read(self, record: dict[str, str]) -> None:
        path = f"/v1/collections/{NAME}/documents/{urllib.parse.quote(record['id'], safe='')}"
        if self.server.ask("GET", path)["text"] != record["text"]:
            raise Wrong(f"{record['id']} isn't what was put")

    def _gone(self, record: dict[str, str]) -> None:
        if record["id"] in [hit["id"] for hit in self._search(record["text"], "hybrid")]:
            raise Wrong(f"{record['id']} was deleted and is found")


class Watch:
    """Whether the service says that it is ready, and what it has allocated."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.tally = Tally()
        self._started = time.monotonic()

    def step(self) -> None:
        """Raises Wrong, urllib.error.HTTPError."""
        self.tally.samples.append((time.monotonic() - self._started, self.server.allocated()))
        ready = self.server.ask("GET", "/readyz")
        if ready["status"] != "ready":
            raise Wrong(f"/readyz: {ready}")


class Builds:
    """Replaced indices. seen: the names of those that were switched to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tally = Tally()

    def step(self) -> None:
        """Raises Wrong where the command fails."""
        _optimize(self.root)
        current = orjson.loads((self.root / NAME / "dense" / "current.json").read_bytes())
        self.tally.seen.add(current["build"])


def _optimize(root: Path, *options: str) -> None:
    command: list[str | Path] = [POLYSEEK, "index", "optimize", NAME, "--root", root, *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Wrong(f"index optimize: {done.stderr.strip()}")


def _tell(report: Report, run: Outcome, others: dict[str, Tally]) -> None:
    report.table("soak", {"searches": run})
    for name, tally in others.items():
        report.say(f"{name}: {tally.done}, {tally.failed.total()} failed")
        report.goal("soak", f"{name} that failed", tally.failed.total(), 0)
        for how, count in tally.failed.most_common(5):
            report.say(f"  {count} times {how}")
    report.goal("soak", "indices that were switched to", len(others["optimize"].seen), 1, least=True)
    samples = np.array(others["watch"].samples)
    seconds, mib = samples[len(samples) // 2 :].T
    slope, start = np.polyfit(seconds, mib, 1)
    growth = float(slope * (seconds[-1] - seconds[0]))
    scatter = float(np.std(mib - slope * seconds - start))
    report.say(f"allocated, MiB: {samples[0, 1]:.0f} at first, {mib.mean():.0f} over the second half, "
               f"{slope * 3600:+.1f} an hour, scattered by {scatter:.1f}")  # fmt: skip
    report.facts["soak"]["memory"] = {
        "mean_mib": float(mib.mean()), "growth_mib": growth, "scatter_mib": scatter, "mib_an_hour": float(slope * 3600)
    }  # fmt: skip
    allowed = max(2 * scatter, FLAT_SHARE * float(mib.mean()))
    report.goal("soak", "MiB that memory rose over the second half", growth, round(allowed, 1))
