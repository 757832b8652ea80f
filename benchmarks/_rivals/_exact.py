"""What both sides of benchmarks/eval.py are given, and what each says. It needs nothing but numpy.

    python DRIVER FOLDER DEPTH
    -> {"seconds": s, "cpu": s, "bytes": n, "metrics": {"ndcg@10": x, "recall@100": x, "mrr@10": x}}

FOLDER: queries.npy (Q, D) and documents.npy (N, D), float32 of unit length, and judged.npy (Q, R): rows of the R
documents that are relevant to each query. DEPTH: how many documents each query finds. cpu: of all threads. bytes: the
process's peak.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Given:
    """What is ranked."""

    queries: NDArray[np.float32]
    documents: NDArray[np.float32]
    judged: NDArray[np.int64]
    depth: int


def answer(prepare: Callable[[Given], Callable[[], dict[str, float]]]) -> None:
    """Time what `prepare` returns, which ranks and measures; preparing is what a reader of the data does before."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print as they like
    folder, depth = Path(sys.argv[1]), int(sys.argv[2])
    run = prepare(Given(*(np.load(folder / f"{name}.npy") for name in ("queries", "documents", "judged")), depth))
    started, cpu = time.perf_counter(), time.process_time()
    metrics = run()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "bytes": peak, "metrics": metrics}), file=answers)
