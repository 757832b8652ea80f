"""Collections with judgements in the BEIR layout, and the two metrics that the benchmarks here print."""

import gzip
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

K = 10


@dataclass(frozen=True)
class Judged:
    """documents: rows of the corpus. queries: id -> text. gains: query -> gain of every relevant document."""

    documents: list[dict[str, Any]]
    queries: dict[str, str]
    gains: dict[str, dict[str, int]]


def data() -> Path:
    """The folder of data; ends the benchmark, with the reason, where there is none."""
    if "POLYSEEK_DATA" not in os.environ:
        print("skipped: POLYSEEK_DATA is not set", file=sys.stderr)
        sys.exit(0)
    return Path(os.environ["POLYSEEK_DATA"])


def load(folder: Path, split: str, language: str | None = None) -> Judged:
    """A BEIR folder; of one language's documents and queries where `language` is given."""
    corpus, queries = (
        [json.loads(line) for line in _lines(folder / name)] for name in ("corpus.jsonl", "queries.jsonl")
    )
    if language is not None:
        corpus, queries = ([row for row in rows if row["lang"] == language] for rows in (corpus, queries))
    documents, texts = {row["_id"] for row in corpus}, {row["_id"]: row["text"] for row in queries}
    gains: dict[str, dict[str, int]] = {}
    for line in list(_lines(folder / "qrels" / f"{split}.tsv"))[1:]:
        query, document, gain = line.split("\t")
        if int(gain) > 0 and document in documents and query in texts:
            gains.setdefault(query, {})[document] = int(gain)
    return Judged(corpus, {query: texts[query] for query in gains}, gains)


def ndcg(found: Sequence[str], gains: Mapping[str, int]) -> float:
    """nDCG@10 with linear gains and a discount of 1/log2(1 + rank)."""
    discounts = 1 / np.log2(np.arange(K) + 2)
    ideal = np.array(sorted(gains.values(), reverse=True)[:K], dtype=float)
    got = np.array([gains.get(document, 0) for document in found[:K]], dtype=float)
    return float(got @ discounts[: len(got)] / (ideal @ discounts[: len(ideal)]))


def recall(found: Sequence[str], gains: Mapping[str, int]) -> float:
    """Recall@10."""
    return len(set(found[:K]) & set(gains)) / len(gains)


def _lines(file: Path) -> Iterator[str]:
    """The lines of a file, or of the same file compressed."""
    if file.exists():
        yield from file.read_text("utf-8").splitlines()
    else:
        with gzip.open(f"{file}.gz", "rt", encoding="utf-8") as stream:
            yield from (line.rstrip("\n") for line in stream)
