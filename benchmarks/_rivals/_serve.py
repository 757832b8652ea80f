"""What each system of benchmarks/rivals.py speaks: one JSON object a line on standard input, one in answer to each.

    {"load": VECTORS.npy, "folder": FOLDER}                      -> {"seconds": s, "bytes": n}
    {"search": QUERIES.npy, "batch": n, "setting": {...}, "ids": IDS.npy}  -> {"seconds": [s a batch]}

Ids are row numbers of VECTORS.npy, int64 (Q, 10), -1 where fewer were found. It needs nothing but numpy: it runs in the
environments of others.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

K = 10
Vectors = NDArray[np.float32]


class System(Protocol):
    """One system. Vectors are of unit length and compared by inner product."""

    def load(self, vectors: Vectors, folder: Path) -> None:
        """Take in the rows (N, D) with their numbers as ids; searches are answered by the index when it returns."""

    def search(self, queries: Vectors, setting: Mapping[str, Any]) -> list[list[int]]:
        """The ids of the best K rows of each query (Q, D), best first. setting: {} is the system's default."""


def serve(system: System) -> None:
    """Answer until standard input ends."""
    # Libraries print as they like: standard output is kept for the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        answer = _load(system, request) if "load" in request else _search(system, request)
        print(json.dumps(answer), file=answers, flush=True)


def _load(system: System, request: Mapping[str, Any]) -> dict[str, Any]:
    vectors = np.load(request["load"], mmap_mode="r")
    folder = Path(request["folder"])
    started = time.perf_counter()
    system.load(vectors, folder)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())}


def _search(system: System, request: Mapping[str, Any]) -> dict[str, Any]:
    queries = np.load(request["search"])
    seconds, found = [], []
    for start in range(0, len(queries), request["batch"]):
        part = queries[start : start + request["batch"]]
        started = time.perf_counter()
        ids = system.search(part, request["setting"])
        seconds.append(time.perf_counter() - started)
        found += [(row + [-1] * K)[:K] for row in ids]
    np.save(request["ids"], np.array(found, dtype=np.int64))
    return {"seconds": seconds}
