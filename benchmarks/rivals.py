"""A collection beside what a user would pick instead: Milvus Lite, Chroma, LanceDB, FAISS by itself.

    python benchmarks/rivals.py [--vectors 200000] [--queries 1000] [--rounds 5] [--threads 1] [--only NAME ...]

Real sentence vectors (see _sentences.py; skipped where POLYSEEK_DATA is unset). Each system runs in an environment of
its own, made once under the cache directory, and in a process of its own, which lives as long as the benchmark.
Recall@10 against exact search comes first: a system is measured as it comes, and at its cheapest setting of recall >=
0.95 where it has one; what doesn't reach that is only shown. Then all answer in turns, round by round: one query at a
time, and batches of 64. Our answers are whole hits with their documents, the others' are ids. Exits with 1 where a goal
is missed.

Axes: N rows, Q queries, D dimensions, K = 10 results.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self

import numpy as np
from _sentences import sentence_vectors
from numpy.typing import NDArray

DRIVERS = Path(__file__).parent / "_rivals"
K = 10
BATCH = 64
RECALL = 0.95
# Scores this close are a tie: systems sum in different orders.
TIE = 1e-5
# Queries of one system's turn, and batches.
SINGLE, BATCHES = 60, 4
GOALS = {"milvus-lite": 5.0, "chroma": 5.0}
OURS = "polyseek"

Vectors = NDArray[np.float32]
Setting = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rival:
    """packages: pinned, () for this environment. settings: beyond the default, by rising recall and cost."""

    name: str
    driver: str
    packages: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()


FAISS = ("faiss-cpu==1.15.1", "numpy==2.4.6")
RIVALS = (
    Rival(OURS, "polyseek.py", arguments=("auto",)),
    Rival(
        "milvus-lite", "milvus.py", ("pymilvus==3.0.2", "milvus-lite==3.2.2"),
        settings=tuple({"ef": ef} for ef in (10, 16, 24, 32, 48, 64, 96, 128, 256)),
    ),
    Rival(
        "chroma", "chroma.py", ("chromadb==1.5.9",),
        settings=tuple({"ef_search": ef} for ef in (10, 16, 24, 32, 48, 64, 100, 200, 400)),
    ),
    Rival(
        "lancedb", "lance.py", ("lancedb==0.40.0",),
        settings=tuple({"nprobes": n, "refine_factor": r} for n in (5, 10, 20, 40, 80) for r in (3, 10)),
    ),
    Rival("faiss Flat", "raw_faiss.py", FAISS, ("Flat",)),
    Rival(
        "faiss HNSW32", "raw_faiss.py", FAISS, ("HNSW32",),
        tuple({"efSearch": ef} for ef in (10, 12, 16, 24, 32, 48, 64, 128, 256)),
    ),
)  # fmt: skip


class Failed(Exception):
    """A system couldn't be installed, or ended; the message says why."""


def python_of(rival: Rival, folder: Path) -> Path:
    """The interpreter of the rival's environment, made where it isn't there. Raises Failed."""
    if not rival.packages:
        return Path(sys.executable)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    name = hashlib.sha256(" ".join([version, *rival.packages]).encode()).hexdigest()[:12]
    environment = folder / f"{rival.driver.removesuffix('.py')}-{name}"
    if not (environment / "installed").exists():
        print(f"installing {' '.join(rival.packages)} into {environment}", file=sys.stderr)
        shutil.rmtree(environment, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, *rival.packages], check=False, capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise Failed(f"it can't be installed: {(errors or ['no reason given'])[-1]}")
        (environment / "installed").touch()
    return environment / "bin" / "python"


class Process:
    """A system at work. A context manager; its files are in a folder that goes with it."""

    def __init__(self, rival: Rival, environments: Path, threads: int) -> None:
        self.rival = rival
        python = python_of(rival, environments)
        self._folder = Path(tempfile.mkdtemp(prefix="polyseek-rivals-"))
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "LANCE_CPU_THREADS")
        self._log = (self._folder / "log").open("w")
        self._process = subprocess.Popen(
            [python, DRIVERS / rival.driver, *rival.arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env=os.environ | (dict.fromkeys(names, str(threads)) if threads else {}),
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def load(self, vectors: Path) -> tuple[float, int]:
        """Seconds that it took and bytes of its files. Raises Failed."""
        folder = self._folder / "files"
        folder.mkdir()
        answer = self._ask({"load": str(vectors), "folder": str(folder)})
        return answer["seconds"], answer["bytes"]

    def search(self, queries: Vectors, batch: int, setting: Setting) -> tuple[list[float], NDArray[np.int64]]:
        """Seconds of each batch, and the rows found (Q, K). Raises Failed."""
        asked, ids = self._folder / "queries.npy", self._folder / "ids.npy"
        np.save(asked, queries)
        answer = self._ask({"search": str(asked), "batch": batch, "setting": dict(setting), "ids": str(ids)})
        return answer["seconds"], np.load(ids)

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            lines = (self._folder / "log").read_text("utf-8", "replace").strip().splitlines()
            raise Failed(f"it ended: {(lines or ['without a word'])[-1]}")
        return dict(json.loads(line))


@dataclass(slots=True)
class Run:
    """A system at one setting. single, batches: seconds of each query, and of each batch."""

    process: Process
    setting: Setting
    recall: float
    load_seconds: float
    bytes: int
    single: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The system and its setting."""
        setting = " ".join(f"{name}={value}" for name, value in self.setting.items())
        return f"{self.process.rival.name} {setting or 'as it comes'}"

    @property
    def rates(self) -> tuple[float, float]:
        """Queries/s: one at a time, and in batches; from the medians."""
        return 1 / median(self.single), BATCH / median(self.batches)


def exact_scores(base: Vectors, queries: Vectors) -> NDArray[np.float32]:
    """The K-th best inner product of each query with all rows (Q,)."""
    blocks = [queries[start : start + 100] @ base.T for start in range(0, len(queries), 100)]
    return np.concatenate([np.partition(block, -K, axis=1)[:, -K] for block in blocks])


def recall(base: Vectors, queries: Vectors, ids: NDArray[np.int64], least: NDArray[np.float32]) -> float:
    """The share of the K rows found whose score is among the K best, ties counting; rows found twice count once."""
    hits = 0
    for query, row, limit in zip(queries, ids, least, strict=True):
        found = np.unique(row[row >= 0])
        hits += int((base[found] @ query >= limit - TIE).sum())
    return hits / (K * len(queries))


def runs(process: Process, base: Vectors, file: Path, queries: Vectors, least: NDArray[np.float32]) -> Iterator[Run]:
    """The default, and the first setting that reaches the recall where the system has settings."""
    name = process.rival.name
    seconds, size = process.load(file)
    print(f"{name}: {len(base)} rows in {seconds:.1f} s, {size / 2**20:.0f} MiB", file=sys.stderr)
    for setting in ({}, *process.rival.settings):
        _, ids = process.search(queries, BATCH, setting)
        run = Run(process, setting, recall(base, queries, ids, least), seconds, size)
        print(f"{run.name}: recall {run.recall:.4f}", file=sys.stderr)
        if not setting or run.recall >= RECALL:
            yield run
        if setting and run.recall >= RECALL:
            return


def measure(all_runs: Sequence[Run], queries: Vectors, rounds: int) -> None:
    """All in turns. The first of each turn warms it up and isn't counted."""
    for number in range(rounds):
        part = np.roll(queries, -number * SINGLE, axis=0)
        many = np.resize(part, (BATCH * (BATCHES + 1), queries.shape[1]))
        for run in all_runs:
            run.single += run.process.search(part[: SINGLE + 1], 1, run.setting)[0][1:]
            run.batches += run.process.search(many, BATCH, run.setting)[0][1:]


def report(all_runs: Sequence[Run]) -> bool:
    """The table; whether the goals are reached, each against the fastest setting of that system that has the recall."""
    ours = next((run for run in all_runs if run.process.rival.name == OURS), None)
    print("| system | recall@10 | one query, median / p95 ms | queries/s, one by one | in 64s | load s | MiB |")
    print("|---|---|---|---|---|---|---|")
    for run in all_runs:
        p95 = float(np.percentile(run.single, 95))
        print(
            f"| {run.name} | {run.recall:.3f} | {median(run.single) * 1e3:.2f} / {p95 * 1e3:.2f} | {run.rates[0]:.0f} "
            f"| {run.rates[1]:.0f} | {run.load_seconds:.0f} | {run.bytes / 2**20:.0f} |"
        )
    if ours is None:
        return True
    reached = ours.recall >= RECALL
    for name in dict.fromkeys(run.process.rival.name for run in all_runs if run is not ours):
        rivals = [run for run in all_runs if run.process.rival.name == name and run.recall >= RECALL]
        if not rivals:
            print(f"{name}: no setting reaches recall {RECALL}")
            continue
        ratios = [ours.rates[i] / max(run.rates[i] for run in rivals) for i in range(2)]
        goal = GOALS.get(name)
        verdict = "" if goal is None else f" (goal {goal:g}): {'reached' if min(ratios) >= goal else 'MISSED'}"
        reached &= goal is None or min(ratios) >= goal
        print(f"ours against {name}: {ratios[0]:.2f} times the queries/s one by one, {ratios[1]:.2f} in 64s{verdict}")
    return reached


def main(arguments: Sequence[str]) -> int:
    """Load, gate, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--vectors", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=1_000, help="at least 61")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of each system; 0: as it comes")
    parser.add_argument("--only", nargs="*", choices=[rival.name for rival in RIVALS], help="all of them by default")
    parsed = parser.parse_args(arguments)
    base, queries = sentence_vectors(parsed.vectors, parsed.queries)
    least = exact_scores(base, queries)
    from retriever.models import cache_folder

    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        np.save(scratch / "base.npy", base)
        found: list[Run] = []
        for rival in RIVALS:
            if parsed.only and rival.name not in parsed.only:
                continue
            try:
                process = stack.enter_context(Process(rival, cache_folder() / "benchmarks" / "rivals", parsed.threads))
                found += runs(process, base, scratch / "base.npy", queries, least)
            except Failed as error:
                print(f"{rival.name} was left out: {error}")
        measure(found, queries, parsed.rounds)
        return 0 if report(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
