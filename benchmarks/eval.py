"""Ranking and metrics of an evaluation beside the `beir` package's exact search and evaluation, with vectors given.

    python benchmarks/eval.py [--documents 200000] [--queries 1000] [--dimension 384] [--rounds 3] [--depth 100 ...]

Both are processes of their own, beir's in an environment of its own (see rivals.py), that take turns; what is timed is
ranking and metrics, without reading and encoding. Vectors are random ones of unit length; each query has RELEVANT
documents that lie near it among them. The metrics of both agree, or nothing is said.

Goals: at most a fifth of beir's time, and 2 GiB at the peak, vectors and libraries included. Both are at the depth of
1,000, beir's own; at others, which are shown beside it, hardly more is left to save than the products, which are the
same for both. It needs a quiet machine: we use all cores, beir one for the most part. Exits with 1 where a goal is
missed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rivals import DRIVERS, Failed, Rival, python_of

BEIR = Rival("beir", "beir_exact.py", ("beir==2.2.0", "torch==2.13.0", "numpy==2.4.6"))
OURS = Rival("polyseek", "polyseek_exact.py")
RELEVANT = 3
# Of the time, and bytes.
GOALS = (0.2, 2 << 30)
DEPTH = 1000
# beir rounds to five decimals.
SAME = 1e-5

Measured = Sequence[Sequence[dict[str, Any]]]


def make(folder: Path, documents: int, queries: int, dimension: int) -> None:
    """The files that _exact.py describes. Relevant documents are the query and more noise."""
    random = np.random.default_rng(0)
    corpus = random.standard_normal((documents, dimension), np.float32)
    asked = random.standard_normal((queries, dimension), np.float32)
    judged = random.choice(documents, (queries, RELEVANT), replace=False)
    corpus[judged] = asked[:, None] + corpus[judged] * np.linspace(3, 6, RELEVANT, dtype=np.float32)[:, None]
    for name, vectors in (("documents", corpus), ("queries", asked)):
        np.save(folder / f"{name}.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    np.save(folder / "judged.npy", judged)


def measure(system: Rival, environments: Path, folder: Path, depth: int) -> dict[str, Any]:
    """What its driver says. Raises Failed."""
    command = [python_of(system, environments), DRIVERS / system.driver, folder, str(depth)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{system.name} ended: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
    return dict(json.loads(done.stdout))


def compare(environments: Path, folder: Path, depth: int, rounds: int) -> Measured:
    """Both in turns at one depth, ours first; a row for each. Raises Failed."""
    found = [[measure(system, environments, folder, depth) for system in (OURS, BEIR)] for _ in range(rounds)]
    ours, theirs = found[0][0]["metrics"], found[0][1]["metrics"]
    if any(abs(ours[name] - theirs[name]) > SAME for name in ours):
        raise Failed(f"the metrics differ: {ours} and {theirs}")
    for column, system in enumerate((OURS, BEIR)):
        seconds, cpu = (median(pair[column][clock] for pair in found) for clock in ("seconds", "cpu"))
        peak = max(pair[column]["bytes"] for pair in found) / 2**30
        metrics = " | ".join(f"{value:.5f}" for value in found[0][column]["metrics"].values())
        print(f"| {system.name} | {depth} | {metrics} | {seconds:.2f} | {cpu:.2f} | {peak:.2f} |", flush=True)
    return found


def reached(found: Measured) -> bool:
    """Whether the goals are."""
    ratio = median(ours["seconds"] / theirs["seconds"] for ours, theirs in found)
    peak = max(ours["bytes"] for ours, _ in found)
    for value, goal, what in ((ratio, GOALS[0], "of beir's time"), (peak / 2**30, GOALS[1] / 2**30, "GiB")):
        print(f"{value:.3f} {what} (goal {goal:g}): {'reached' if value <= goal else 'MISSED'}")
    return ratio <= GOALS[0] and peak <= GOALS[1]


def main(arguments: Sequence[str]) -> int:
    """Make the vectors, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--depth", type=int, nargs="+", default=[100], help=f"besides {DEPTH}")
    parsed = parser.parse_args(arguments)
    from retriever.models import cache_folder

    with tempfile.TemporaryDirectory() as name:
        make(Path(name), parsed.documents, parsed.queries, parsed.dimension)
        print("| system | depth | ndcg@10 | recall@100 | mrr@10 | s | cpu s | GiB |\n|---|---|---|---|---|---|---|---|")
        try:
            environments = cache_folder() / "benchmarks" / "rivals"
            found = [compare(environments, Path(name), depth, parsed.rounds) for depth in (DEPTH, *parsed.depth)]
        except Failed as error:
            print(error)
            return 1
    return 0 if reached(found[0]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
