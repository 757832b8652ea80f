"""The service under load, with the load made in a process of its own.

    python benchmarks/service.py [cached] [closed] [open] [soak] [rival] [--minutes 10] [--seconds 10] [--rounds 3]
                                 [--json]

cached   hybrid searches of the demo's `docs` whose vectors are cached, beside a bare FastAPI route that returns the
         same bytes under the same uvicorn settings: request by request in turns, on kept connections.
closed   hybrid searches of the demo's `code`, each of which is encoded (`english`): 1 client and 32, in turns.
open     the same searches at 30, 60 and 90% of the capacity (what 32 clients got), at random moments; latency counts
         from the moment at which a request was due.
soak     the same at 50% for `--minutes`, with writes by REST, and `index optimize` in another process, which replaces
         the index again and again (see _soak.py).
rival    POST /v1/embeddings beside infinity-emb in an environment of its own: the same model, texts, clients.

All of them by default. What is answered is checked before anything is timed, and at every request while it is timed:
one that failed or was wrong is named, and misses the goal. Exits with 1 where a goal is missed. `--json` prints one
object instead of the tables, which go to standard error then. `--seconds`: of each run; `--rounds`: of turns.
"""

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median

import _soak
import numpy as np
import orjson
from _demo import Known, demo_root, known_items, search_for
from _load import Generator, Outcome, Request, Target, request
from _report import Report
from _servers import Server, bare, infinity, polyseek
from numpy.typing import NDArray
from rivals import Failed

from retriever import models
from retriever.root import Root

CLIENTS = 32
# ratio: of medians, to the bare route. gain: 32 clients' throughput to one's. spread: p99 to p50 of the 32.
GOALS = {"ratio": 2.5, "gain": 1.3, "spread": 5.0}
SHARES = (0.3, 0.6, 0.9)
# So small that a text isn't there any more when its turn comes again.
CACHE = 256
TURNS = 500
COSINE = 0.999
QUESTIONS = (
    "how do I read a file line by line", "What does the with statement do?", "operator precedence",
    "Wie setze ich einen Haltepunkt im Debugger?", "Was ist der Unterschied zwischen is und ==?",
    "Comment définir une classe abstraite ?", "¿cómo se captura una excepción?", "come si formatta una stringa",
    "リストの内包表記", "字符串格式化", "как импортировать модуль", "what are keyword-only arguments",
    "yield from a generator", "metaclass keyword", "await inside a comprehension", "order of a dictionary's keys",
)  # fmt: skip


class Unfit(Exception):
    """Nothing is timed, since what is answered isn't right; the message says how."""


@dataclass
class Bench:
    """What the parts share. seconds: of each run. capacity: answers/s of `closed`, once it has run."""

    scratch: Path
    report: Report
    generator: Generator
    seconds: float
    rounds: int
    minutes: float
    capacity: float | None = None

    @cached_property
    def code(self) -> Path:
        """A root with the demo's `code`."""
        return demo_root(self.scratch, "code")

    @cached_property
    def items(self) -> list[Known]:
        """Texts whose best hit in `code` is known."""
        items = known_items(self.code)
        self.report.say(f"{len(items)} texts whose best hit is known, such as {items[0].text!r}: {items[0].id}")
        return items

    @property
    def searches(self) -> list[Request]:
        """Hybrid searches by them."""
        return [search_for("code", {"text": item.text}, item.id) for item in self.items]


def counted(server: Server, metric: str) -> float:
    """A counter of the service; 0 where it hasn't begun."""
    found = re.search(rf"^{re.escape(metric)} (\S+)$", server.bytes("GET", "/metrics").decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


HITS = 'polyseek_query_cache_total{outcome="hit"}'


# -- cached

SEARCH = "/v1/collections/docs/search"


def cached(bench: Bench) -> None:
    """One search beside a route that does nothing."""
    root = demo_root(bench.scratch, "docs")
    with ExitStack() as stack:
        service = stack.enter_context(polyseek(root))
        answers = [_answer_twice(service, question) for question in QUESTIONS]
        _agree(root, answers)
        nothing = stack.enter_context(bare(answers, bench.scratch))
        bodies = [orjson.dumps({"text": question}) for question in QUESTIONS]
        # An answer differs from the one before in its times, which come last.
        starts = [answer[: answer.index(b'"timings_ms"')] for answer in answers]
        ours = Target(service.port, [
            request("POST", SEARCH, body, start)
            for body, start in zip(bodies, starts, strict=True)
        ])  # fmt: skip
        theirs = Target(nothing.port, [request("POST", f"/?{i}", bodies[i], start) for i, start in enumerate(starts)])
        bench.generator.turns(ours, theirs, len(QUESTIONS) * 4)
        before = counted(service, HITS)
        turns = bench.rounds * TURNS
        runs = dict(zip(("search, cached", "bare route"), bench.generator.turns(ours, theirs, turns), strict=True))
        if (hits := counted(service, HITS) - before) != turns:
            raise Unfit(f"{hits:.0f} of {turns} query vectors came from the cache")
        timings = [service.ask("POST", SEARCH, {"text": question})["timings_ms"] for question in QUESTIONS]
    bench.report.say(f"hybrid search of `docs`, 10 hits, answers of {median(map(len, answers)) / 1024:.0f} KiB:")
    bench.report.table("cached", runs)
    parts = ", ".join(f"{part} {median(timing[part] for timing in timings):.2f}" for part in timings[0])
    bench.report.say(f"as the service itself times it, medians in ms: {parts}")
    ratio = runs["search, cached"].percentile(50) / runs["bare route"].percentile(50)
    bench.report.goal("cached", "p50, ratio to the bare route's", ratio, GOALS["ratio"])


def _answer_twice(service: Server, question: str) -> bytes:
    """The answer whose vector came from the cache."""
    service.bytes("POST", SEARCH, {"text": question})
    return service.bytes("POST", SEARCH, {"text": question})


def _agree(root: Path, answers: Sequence[bytes]) -> None:
    """Raises Unfit where the service doesn't answer as the library does in this process."""
    with Root(root).open("docs") as docs:
        for question, answer in zip(QUESTIONS, answers, strict=True):
            hits, found = docs.search(question).hits, orjson.loads(answer)["hits"]
            same = [hit.id for hit in hits] == [hit["id"] for hit in found]
            if not same or not np.allclose([hit.score for hit in hits], [hit["score"] for hit in found], atol=1e-6):
                raise Unfit(f"the service doesn't answer {question!r} as the library does")


# -- closed, open


def closed(bench: Bench) -> None:
    """The throughput of 32 clients beside that of one."""
    with polyseek(bench.code, query_cache=str(CACHE)) as service:
        target = Target(service.port, bench.searches)
        one, many = _closed_runs(bench, service, target)
        _not_cached(service)
    bench.report.say("hybrid searches of `code`, every one encoded; a closed loop:")
    bench.report.table("closed", {"1 client": one, f"{CLIENTS} clients": many})
    _ceiling(bench, many)
    bench.report.goal(
        "closed", f"throughput of {CLIENTS} to that of 1", many.rate / one.rate, GOALS["gain"], least=True
    )
    spread = many.percentile(99) / many.percentile(50)
    bench.report.goal("closed", f"p99 to p50 of {CLIENTS}", spread, GOALS["spread"])
    bench.capacity = many.rate


def _closed_runs(bench: Bench, service: Server, target: Target) -> tuple[Outcome, Outcome]:
    """1 client and 32, in turns, after a run that isn't counted; and what the service did in them."""
    bench.generator.closed(target, CLIENTS, min(3.0, bench.seconds))
    runs = {1: Outcome(), CLIENTS: Outcome()}
    did = {clients: np.zeros(3) for clients in runs}
    for clients in [*runs] * bench.rounds:
        before = _did(service)
        runs[clients] += bench.generator.closed(target, clients, bench.seconds)
        did[clients] += _did(service) - before
    for clients, (cpu, texts, batches) in did.items():
        cores, together = cpu / runs[clients].seconds, texts / batches
        bench.report.say(
            f"{clients} clients: {cores:.2f} cores used by the service, {together:.1f} texts encoded together"
        )
        bench.report.fact("closed", f"service_{clients}", {"cores": cores, "texts_together": together})
    return runs[1], runs[CLIENTS]


def _did(service: Server) -> NDArray[np.float64]:
    """Processor seconds, texts encoded and their batches so far."""
    texts, batches = (counted(service, f"polyseek_batch_texts_{part}") for part in ("sum", "count"))
    return np.array([service.cpu_seconds(), texts, batches])


def _not_cached(service: Server) -> None:
    if hits := counted(service, HITS):
        raise Unfit(f"{hits:.0f} query vectors came from the cache")


def _ceiling(bench: Bench, many: Outcome) -> None:
    """What the generator itself could get, from a route that does nothing."""
    with bare([b'{"hits":[]}'], bench.scratch) as nothing:
        target = Target(nothing.port, [request("POST", "/?0", b"{}")])
        most = bench.generator.closed(target, CLIENTS, min(3.0, bench.seconds)).rate
    bench.report.fact("closed", "generator_per_second", most)
    bench.report.say(f"the generator's own ceiling, {CLIENTS} clients of a bare route: {most:.0f} answers/s, "
                     f"{most / many.rate:.0f} times that")  # fmt: skip


def open_loop(bench: Bench) -> None:
    """Latency at rates that the service doesn't choose."""
    with polyseek(bench.code, query_cache=str(CACHE)) as service:
        target = Target(service.port, bench.searches)
        bench.generator.closed(target, CLIENTS, min(3.0, bench.seconds))
        capacity = bench.capacity or bench.generator.closed(target, CLIENTS, bench.seconds).rate
        runs = {
            f"{share:.0%}: {share * capacity:.0f}/s": bench.generator.open(
                target, share * capacity, bench.rounds * bench.seconds
            )
            for share in SHARES
        }
        _not_cached(service)
    bench.report.say(f"the same at random moments, at shares of the capacity ({capacity:.0f}/s):")
    bench.report.table("open", runs)
    late = max(run.late for run in runs.values()) * 1e3
    bench.report.say(f"requests went out at most {late:.2f} ms behind their time (p99)")


# -- soak


def soak(bench: Bench) -> None:
    """Minutes of searches, writes and replaced indices."""
    with tempfile.TemporaryDirectory(dir=bench.scratch) as written:
        shutil.copytree(bench.code, written, dirs_exist_ok=True)
        _soak.soak(Path(written), bench.items, bench.generator, bench.report, bench.minutes)


# -- rival


def rival(bench: Bench) -> None:
    """Embeddings beside infinity-emb's."""
    texts = _mixed_texts(bench)
    bodies = [orjson.dumps({"model": "english", "input": [text]}) for text in texts]
    requests = [request("POST", "/v1/embeddings", body, b'"embedding":[') for body in bodies]
    (empty := bench.scratch / "empty").mkdir()
    with ExitStack() as stack:
        servers = {"polyseek": stack.enter_context(polyseek(empty, query_cache=str(CACHE)))}
        try:
            servers["infinity"] = stack.enter_context(infinity(models.locate("english").folder))
        except Failed as error:
            bench.report.say(f"infinity was left out: {error}")
            return
        cosine = _least_cosine(list(servers.values()), texts[:64])
        bench.report.say(f"the same 64 texts: least cosine of their vectors {cosine:.6f}")
        bench.report.goal("rival", "cosine", cosine, COSINE, least=True)
        if cosine < COSINE:
            return
        targets = {name: Target(server.port, requests) for name, server in servers.items()}
        runs = _in_turns(bench, targets)
        memory = {name: server.resident() for name, server in servers.items()}
    bench.report.say("POST /v1/embeddings, one text each:")
    bench.report.table("rival", runs)
    bench.report.say("resident at the end, MiB: " + ", ".join(f"{name} {mib:.0f}" for name, mib in memory.items()))
    for clients in (1, CLIENTS):
        ours, theirs = runs[f"polyseek, {clients}"], runs[f"infinity, {clients}"]
        rate, p99 = ours.rate / theirs.rate, theirs.percentile(99) / ours.percentile(99)
        bench.report.fact("rival", f"ratio_{clients}", {"per_second": rate, "p99": p99})
        bench.report.say(f"{clients} clients: {rate:.2f} times infinity's embeddings/s, p99 {p99:.2f} times as short")


def _mixed_texts(bench: Bench) -> list[str]:
    """First lines of docstrings and whole functions, one as many as the other, mixed."""
    with Root(bench.code).open("code") as code:
        whole = [code.get(item.id).text for item in bench.items]
    texts = [item.text for item in bench.items] + whole
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]


def _least_cosine(servers: Sequence[Server], texts: Sequence[str]) -> float:
    """Of the vectors of the same texts, of two servers."""
    ours, theirs = (_vectors(server, texts) for server in servers)
    return float((ours * theirs).sum(axis=1).min())


def _vectors(server: Server, texts: Sequence[str]) -> NDArray[np.float32]:
    answer = server.ask("POST", "/v1/embeddings", {"model": "english", "input": list(texts)})
    vectors = np.array([each["embedding"] for each in answer["data"]], dtype=np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _in_turns(bench: Bench, targets: Mapping[str, Target]) -> dict[str, Outcome]:
    for target in targets.values():
        bench.generator.closed(target, CLIENTS, min(5.0, bench.seconds))
    runs: dict[str, Outcome] = {}
    for _ in range(bench.rounds):
        for clients in (1, CLIENTS):
            for name, target in targets.items():
                run = bench.generator.closed(target, clients, bench.seconds)
                key = f"{name}, {clients}"
                runs[key] = runs.get(key, Outcome()) + run
    return runs


PARTS: dict[str, Callable[[Bench], None]] = {
    "cached": cached, "closed": closed, "open": open_loop, "soak": soak, "rival": rival
}  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Run the parts named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, "all", []], help="all of them by default")
    parser.add_argument("--minutes", type=float, default=10, help="of the soak")
    parser.add_argument("--seconds", type=float, default=10, help="of each run of the others")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parsed = parser.parse_args(arguments)
    names = list(PARTS) if "all" in parsed.parts or not parsed.parts else parsed.parts
    report = Report(parsed.json)
    with tempfile.TemporaryDirectory(prefix="polyseek-bench-") as scratch, Generator() as generator:
        bench = Bench(Path(scratch), report, generator, parsed.seconds, parsed.rounds, parsed.minutes)
        for name in names:
            report.say(f"== {name}")
            try:
                PARTS[name](bench)
            except (Failed, Unfit, _soak.Wrong) as error:
                report.fail(name, str(error))
    if parsed.json:
        print(orjson.dumps({**report.facts, "missed": report.missed}, option=orjson.OPT_INDENT_2).decode())
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
