"""A build of ready-made vectors against bare SQLite inserts of the same rows, interleaved; the best round counts.

    python benchmarks/bulk.py [--documents 100000] [--rounds 3] [--folder DIR]

Documents have a title, a short text, a language and three metadata fields; vectors have 384 dimensions. Bare: the same
tables and indices, pragmas and documents a transaction, one `executemany` a table, no checksums; its rows lie ready and
only the time inside SQLite counts. Ours: the storing of checked documents within `build`, all that is neither reading
them nor the derived indices, whose times are told beside. Each runs in a process of its own, whose peak of resident
memory is told, mapped files included. Exits with 1 where a goal is missed.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import orjson

DIMENSION = 384
GOAL_RATIO = 3.0
GOAL_BYTES = 2**30
BLOCK = 10_000
WORDS = ("river", "bridge", "winter", "engine", "harbour", "letter", "garden", "copper", "market", "signal", "forest")
LANGUAGES = ("en", "de", "fr", "zh", "ja")


def write_source(folder: Path, documents: int) -> None:
    """A folder of ready-made vectors, the same for the same number of documents."""
    rng = np.random.default_rng(0)
    shape = (documents, DIMENSION)
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float32, shape=shape)
    with (folder / "documents.jsonl").open("wb") as file:
        for start in range(0, documents, BLOCK):
            stop = min(start + BLOCK, documents)
            vectors[start:stop] = rng.standard_normal((stop - start, DIMENSION), dtype=np.float32)
            words = np.array(WORDS)[rng.integers(0, len(WORDS), (stop - start, 14))]
            file.writelines(_line(number, row.tolist()) for number, row in enumerate(words, start))
    vectors.flush()


def _line(number: int, words: list[str]) -> bytes:
    document = {
        "id": f"doc-{number:08d}",
        "title": " ".join(words[:3]),
        "text": " ".join(words[3:]) + f" {number}",
        "language": LANGUAGES[number % len(LANGUAGES)],
        "year": 1950 + number * 7919 % 75,
        "section": f"section {number * 104729 % 200}",
        "score": number * 7907 % 10_000 / 10_000,
    }
    return orjson.dumps(document) + b"\n"


def bare(source: Path, folder: Path) -> dict[str, float]:
    """Seconds inside SQLite."""
    import apsw

    from retriever.build import BATCH_DOCUMENTS, READY
    from retriever.store import SCHEMA

    connection = apsw.Connection(str(folder / "bare.sqlite"))
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(SCHEMA)
    seconds = 0.0
    for tables in _rows(source, BATCH_DOCUMENTS * READY):
        begin = time.perf_counter()
        with connection:
            for table, rows in tables.items():
                holes = ", ".join("?" * len(rows[0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({holes})", rows)  # noqa: S608 - names from below
        seconds += time.perf_counter() - begin
    connection.close()
    return {"seconds": seconds}


def _rows(source: Path, size: int) -> Iterator[dict[str, list[tuple[Any, ...]]]]:
    """Table -> rows, of so many documents at a time."""
    with (source / "documents.jsonl").open("rb") as lines:
        for start in itertools.count(0, size):
            batch = list(enumerate(map(orjson.loads, itertools.islice(lines, size)), start + 1))
            if not batch:
                return
            # Mapped anew each time, so that the pages read before don't stay resident.
            vectors = np.load(source / "vectors.npy", mmap_mode="r")
            fields = [{name: d[name] for name in ("year", "section", "score")} for _, d in batch]
            constant, same = (False, "text", None, b"{}"), b"0123456789abcdef"
            yield {
                "documents": [
                    (key, *itemgetter("id", "title", "text", "language")(d), *constant, orjson.dumps(f), same)
                    for (key, d), f in zip(batch, fields, strict=True)
                ],
                "units": [(key, key, 0, d["language"], "text", 0, len(d["text"]), 0, same) for key, d in batch],
                "vectors": [(key, vectors[key - 1].tobytes()) for key, _ in batch],
                "metadata": [
                    (name, value, key) for (key, _), f in zip(batch, fields, strict=True) for name, value in f.items()
                ],
            }


def ours(source: Path, folder: Path) -> dict[str, float]:
    """Seconds of a build: those of storing, of the derived indices, and of the rest, which is reading and checking.

    bytes: the peak of memory until everything is added and findable; settled_bytes: with the dense index at its end,
    which maps all vectors.
    """
    from retriever import collection
    from retriever.build import BuildOptions, build
    from retriever.root import Root
    from retriever.upkeep import Upkeep

    storing, written, settle = Calls(collection, "upsert"), Calls(Upkeep, "written"), Calls(Upkeep, "settle")
    summary = build(Root(folder), "bulk", [source], BuildOptions(encoder="none"))
    derived = written.seconds + settle.seconds
    return {
        "seconds": storing.seconds,
        "derived": derived,
        "reading": summary.seconds - storing.seconds - derived,
        "bytes": settle.peak,
        "settled_bytes": peak_memory(),
    }


class Calls:
    """What the calls of a function or method take from now on; `peak`: of memory, before the last of them."""

    def __init__(self, owner: object, name: str) -> None:
        self.seconds, self.peak = 0.0, 0
        self._function = getattr(owner, name)
        # A function, so that it becomes a method where the owner is a class.
        setattr(owner, name, lambda *arguments: self._measured(*arguments))  # noqa: PLW0108 - see above

    def _measured(self, *arguments: object) -> object:
        self.peak = peak_memory()
        begin = time.perf_counter()
        try:
            return self._function(*arguments)
        finally:
            self.seconds += time.perf_counter() - begin


def peak_memory() -> int:
    """The most that was resident of this process; `ru_maxrss` would go on from that of the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


SYSTEMS = {"bare": bare, "ours": ours}


def child(system: str, source: Path, room: Path) -> dict[str, float]:
    """Run one of SYSTEMS in a process of its own, in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=room) as folder:
        command = [sys.executable, __file__, "--child", system, str(source), folder]
        return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def compare(documents: int, rounds: int, room: Path) -> bool:
    """Print each round and the best of them; whether the goals are reached."""
    source = room / "source"
    source.mkdir()
    write_source(source, documents)
    best = dict.fromkeys(SYSTEMS, float("inf"))
    peak = dict.fromkeys(SYSTEMS, 0.0)
    for number in range(rounds):
        # In turns, the first one first every other time.
        for system in list(SYSTEMS)[:: -1 if number % 2 else 1]:
            found = child(system, source, room)
            best[system] = min(best[system], found["seconds"])
            peak[system] = max(peak[system], found["bytes"])
            print(f"  {system}: " + ", ".join(f"{name} {value:,.2f}" for name, value in found.items()), flush=True)
    ratio = best["ours"] / best["bare"]
    reached = ratio <= GOAL_RATIO and peak["ours"] <= GOAL_BYTES
    rates = [f"{documents / best[system]:,.0f}" for system in ("ours", "bare")]
    memory = [f"{size / 2**20:,.0f}" for size in (peak["ours"], peak["bare"], GOAL_BYTES)]
    print(
        f"{documents:,} documents: {rates[0]} a second stored against {rates[1]} of bare inserts, {ratio:.2f} times "
        f"their time (goal {GOAL_RATIO:g}), peak {memory[0]} MiB against {memory[1]} (goal {memory[2]}): "
        f"{'reached' if reached else 'MISSED'}"
    )
    return reached


def main(arguments: Sequence[str]) -> int:
    """Compare, or run one child."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where there is room for the files; the system's by default")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    if parsed.child:
        system, source, folder = parsed.child
        found = SYSTEMS[system](Path(source), Path(folder))
        print(json.dumps({"bytes": peak_memory(), **found}))
        return 0
    with tempfile.TemporaryDirectory(dir=parsed.folder) as room:
        return 0 if compare(parsed.documents, parsed.rounds, Path(room)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
