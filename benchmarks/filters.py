"""Filters at scale: a filter's row set found, found again and carried over a write; lexical search within it.

    POLYSEEK_DATA=DIR python benchmarks/filters.py [--units 1000000] [--queries 100] [--folder DIR]

The collection holds real sentences (repeated where there are too few), one unit a document, with metadata that half,
3 % and 0.1 % of them pass at random, and `place`, whose values follow the order of the keys. Prints milliseconds, each
filtered lexical search in turn with the unfiltered one; ends with an error where a carried set takes more than 10 ms at
p95 or a filtered search more than 10 ms and 3 times the unfiltered one. --folder: where the collection is kept; one
that is there is used.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from _sentences import sentences

from retriever import Collection, Document
from retriever.analysis import query_terms
from retriever.documents import UNIT_KINDS
from retriever.records import encode_value
from retriever.store import FILE_NAME, Store

DIMENSION = 4
LIMIT_MS, LIMIT_RATIO = 10.0, 3.0
WRITES = 20
# A search's window of 200 documents and what it asks for beyond it.
ASKED = 256
LEXICAL = (
    "half eq 50 %", "section eq 3 %", "price eq 0.1 %", "place range 50 %", "place range 3 %", "place eq 0.1 %",
    "half and price 0.05 %",
)  # fmt: skip
FILTERS: dict[str, dict[str, Any]] = {
    "half eq 50 %": {"half": True},
    "section eq 3 %": {"section": "s07"},
    "price eq 0.1 %": {"price": 7},
    "place range 50 %": {"place": {"lt": 500}},
    "place range 3 %": {"place": {"gte": 300, "lt": 330}},
    "place eq 0.1 %": {"place": 300},
    "price in 3 %": {"price": {"in": list(range(30))}},
    "tags eq 10 %": {"tags": "t4"},
    "rare exists 0.1 %": {"rare": {"exists": True}},
    "not section 97 %": {"not": {"section": "s07"}},
    "half and section 1.5 %": {"half": True, "section": "s07"},
    "half and price 0.05 %": {"half": True, "price": 7},
    "section or price 3 %": {"or": [{"section": "s07"}, {"price": 7}]},
    "language 50 %": {"language": "en"},
    "language 3 %": {"language": "fr"},
    "language 0.1 %": {"language": "is"},
    "kind 3 %": {"kind": "caption"},
    "kind 0.1 %": {"kind": "image"},
    "modality 3 %": {"modality": "code"},
}


class Row(NamedTuple):
    """One document and its only unit."""

    key: int
    text: str
    language: str
    modality: str
    kind: str
    metadata: dict[str, Any]


def rows(units: int) -> Iterator[Row]:
    """The same ones each time."""
    rng = np.random.default_rng(0)
    base, _ = sentences()
    draws = zip(
        rng.random(units).tolist(),
        *(rng.integers(n, size=units).tolist() for n in (2, 33, 1000, 20, 1000)),
        strict=True,
    )
    for key, (sentence, (share, half, section, price, tag, rare)) in enumerate(
        zip(itertools.cycle(base), draws, strict=False), start=1
    ):
        metadata = {
            "half": half == 0, "section": f"s{section:02}", "price": price, "place": 1000 * key // (units + 1),
            "tags": [f"t{tag}", f"t{(tag + 1 + price % 19) % 20}"], **({"rare": "yes"} if rare == 0 else {}),
        }  # fmt: skip
        language = "is" if share < 0.001 else "fr" if share < 0.031 else "de" if share < 0.5 else "en"
        kind = "image" if key % 1000 == 7 else "caption" if key % 33 == 5 else "passage"
        modality = "image" if kind == "image" else "code" if key % 33 == 6 else "text"
        yield Row(key, sentence.text, language, modality, kind, metadata)


def make(folder: Path, units: int) -> None:
    """A collection of `units` units in `folder`, written by plain SQL."""
    Collection.create(folder, encoder=None).close()
    store = Store.open(folder / FILE_NAME)
    with store.writing() as writer:
        writer.change_settings(replace(writer.settings(), dimension=DIMENSION))
        insert = writer._connection.executemany
        insert("INSERT INTO documents VALUES (?, ?, '', ?, ?, 0, ?, NULL, ?, ?, ?)", map(_document, rows(units)))
        insert("INSERT INTO units VALUES (?, ?, ?, ?, ?, 0, ?, 0, ?)", map(_unit, rows(units)))
        vectors = np.random.default_rng(0).standard_normal((units, DIMENSION)).astype("<f4")
        insert("INSERT INTO vectors VALUES (?, ?)", ((key, v.tobytes()) for key, v in enumerate(vectors, start=1)))
        insert("INSERT INTO metadata VALUES (?, ?, ?)", _sorted_metadata(units))
    store.close()


def _document(row: Row) -> tuple[Any, ...]:
    captions = orjson.dumps({row.language: [row.text]} if row.kind == "caption" else {})
    metadata = orjson.dumps(row.metadata)
    return row.key, f"d{row.key}", row.text, row.language, row.modality, captions, metadata, row.key.to_bytes(16)


def _unit(row: Row) -> tuple[Any, ...]:
    kind = UNIT_KINDS.index(row.kind)
    return row.key, row.key, kind, row.language, row.modality, len(row.text), row.key.to_bytes(16)


def _sorted_metadata(units: int) -> Iterator[tuple[str, Any, int]]:
    """In the order of the table, where inserting is fastest."""
    by_name: dict[str, list[tuple[Any, int]]] = {}
    for row in rows(units):
        for name, value in row.metadata.items():
            members = value if isinstance(value, list) else [value]
            by_name.setdefault(name, []).extend((encode_value(member), row.key) for member in members)
    for name in sorted(by_name):
        yield from ((name, value, key) for value, key in sorted(by_name[name]))


def milliseconds(step) -> float:  # noqa: ANN001 - any call
    """How long one call takes."""
    started = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - started)


def measure_sets(collection: Collection) -> list[str]:
    """Print how long the filters' row sets take; what missed its goal."""
    first, again, counts = {}, {}, {}
    with collection._upkeep.at_newest() as (view, reader):
        for name, filter_ in FILTERS.items():
            first[name] = milliseconds(lambda: view.mask(filter_, reader))  # noqa: B023 - called at once
            again[name] = milliseconds(lambda: view.mask(filter_, reader))  # noqa: B023
            counts[name] = view.mask(filter_, reader).count
    carried: dict[str, list[float]] = {name: [] for name in FILTERS}
    for number in range(WRITES):
        write(collection, number)
        with collection._upkeep.at_newest() as (view, reader):
            for name, filter_ in FILTERS.items():
                carried[name].append(milliseconds(lambda: view.mask(filter_, reader)))  # noqa: B023
    print(f"{'row sets, ms':26}{'rows':>9}{'first':>9}{'again':>8}{'carried':>9}{'p95':>8}")
    for name, times in carried.items():
        print(
            f"{name:26}{counts[name]:9}{first[name]:9.1f}{again[name]:8.3f}"
            f"{np.median(times):9.3f}{np.percentile(times, 95):8.3f}"
        )
    return [f"{name} carried" for name, times in carried.items() if np.percentile(times, 95) > LIMIT_MS]


def write(collection: Collection, number: int) -> None:
    """One small write: a document anew, or the metadata of one alone."""
    vector = np.ones(DIMENSION, dtype=np.float32)
    metadata = {"half": number % 2 == 0, "section": "s07", "price": 7, "place": 300}
    text = f"written {number // 2}"
    collection.upsert([Document(f"w{number // 2}", text=text, language="en", vector=vector, metadata=metadata)])


def measure_lexical(collection: Collection, queries: int) -> list[str]:
    """Print how long lexical searches take within the filters; what missed its goal."""
    _, held_out = sentences()
    texts = [(" ".join(one.text.split()[:8]), one.language) for one in held_out[:queries]]
    missed = []
    print(f"{'lexical, ms':26}{'median':>9}{'p95':>9}{'unfiltered':>12}{'p95':>9}")
    with collection._upkeep.at_newest() as (view, reader):
        terms = [query_terms(text, [language]) for text, language in texts]
        for name in LEXICAL:
            rows = view.mask(FILTERS[name], reader)
            pairs = []
            for words in terms:
                plain = milliseconds(lambda: view.matching(words, ASKED, view.live, reader))  # noqa: B023
                pairs.append((milliseconds(lambda: view.matching(words, ASKED, rows, reader)), plain))  # noqa: B023
            (ours, plain), (ours_p95, plain_p95) = np.median(pairs, axis=0), np.percentile(pairs, 95, axis=0)
            print(f"{name:26}{ours:9.2f}{ours_p95:9.2f}{plain:12.2f}{plain_p95:9.2f}", flush=True)
            if ours_p95 > max(LIMIT_MS, LIMIT_RATIO * plain_p95):
                missed.append(f"lexical within {name}")
    return missed


def main() -> int:
    """Print the tables; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.folder or Path(folder, "filters")
        if not path.exists():
            make(path, arguments.units)
        with Collection.open(path) as collection:
            missed = measure_sets(collection) + measure_lexical(collection, arguments.queries)
    print("goals missed: " + (", ".join(missed) or "none"))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
