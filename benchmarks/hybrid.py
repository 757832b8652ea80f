"""Dense, lexical and hybrid side by side at several weights: nDCG@10 of each on data with judgements.

The weights of `retriever/search.py` were chosen on tldr's development queries (short documents in many languages) and
SciFact's training queries; XQuAD is where they are held against their sides. Reads POLYSEEK_DATA.
"""

import gzip
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import orjson

from retriever import Collection, Encoder, SearchRequest
from retriever.fusion import fuse

LEXICAL_WEIGHTS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
DEPTH = 200
TUNING = (("tldr/desc2page", "dev"), ("scifact", "train"))
LANGUAGES = ("ar", "de", "ru", "th", "zh")
MOST_QUERIES = 2000


def lines(path: Path) -> list[bytes]:
    """The lines of a plain or gzipped file."""
    packed = path.with_name(path.name + ".gz")
    return gzip.decompress(packed.read_bytes()).splitlines() if packed.exists() else path.read_bytes().splitlines()


def load(folder: Path, split: str) -> tuple[list[dict], dict[str, str], dict[str, dict[str, int]]]:
    """Documents, queries and judgements of a BEIR folder."""
    documents = [orjson.loads(line) for line in lines(folder / "corpus.jsonl")]
    queries = {row["_id"]: row["text"] for row in map(orjson.loads, lines(folder / "queries.jsonl"))}
    judged: dict[str, dict[str, int]] = defaultdict(dict)
    for line in lines(folder / "qrels" / f"{split}.tsv")[1:]:
        query, document, score = line.decode().split("\t")
        judged[query][document] = int(score)
    return documents, queries, judged


def ndcg(ranking: list[str], judged: dict[str, int]) -> float:
    """nDCG@10, gains as judged, discount 1/log2(1 + rank)."""
    discounts = 1 / np.log2(np.arange(2, 12))
    gains = np.array([judged.get(document, 0) for document in ranking[:10]])
    ideal = np.array(sorted(judged.values(), reverse=True)[:10])
    return float(gains @ discounts[: len(gains)] / max(ideal @ discounts[: len(ideal)], 1e-9))


def measure(
    documents: list[dict], queries: dict[str, str], judged: dict[str, dict[str, int]], model: str
) -> list[float]:
    """Mean nDCG@10 of dense, lexical and hybrid as served, and of hybrid at each fixed weight."""
    chosen = [query for query in judged if query in queries][:MOST_QUERIES]
    with (
        tempfile.TemporaryDirectory() as folder,
        Collection.create(Path(folder, "c"), encoder=Encoder.load(model), passages="none") as collection,
    ):
        for start in range(0, len(documents), 500):
            collection.upsert(documents[start : start + 500])
        rankings = {
            mode: [
                [hit.id for hit in result.hits]
                for result in collection.search_many(
                    [SearchRequest(text=queries[query], mode=mode, k=DEPTH, highlight=False) for query in chosen]
                )
            ]
            for mode in ("dense", "lexical", "hybrid")
        }
    systems = list(rankings.values())
    for weight in LEXICAL_WEIGHTS:
        pairs = zip(rankings["dense"], rankings["lexical"], strict=True)
        systems.append([[d for d, _ in fuse([(1 - weight, one), (weight, other)])] for one, other in pairs])
    return [
        float(np.mean([ndcg(ranking, judged[query]) for query, ranking in zip(chosen, system, strict=True)]))
        for system in systems
    ]


def main() -> None:
    """Print one row for each data set."""
    data = os.environ.get("POLYSEEK_DATA")
    if not data:
        sys.exit("skipped: POLYSEEK_DATA names no folder of data")
    print(f"{'':24} dense lexical served " + " ".join(f"{weight:.2f}" for weight in LEXICAL_WEIGHTS))
    for name, split in TUNING:
        row = measure(*load(Path(data, name), split), "multilingual")
        print(f"{name:24} " + " ".join(f"{value:.3f}" for value in row), flush=True)
    documents, queries, judged = load(Path(data, "xquad"), "test_mono")
    for language in LANGUAGES:
        mine = [document for document in documents if document["_id"].startswith(f"{language}:")]
        asked = {query: found for query, found in judged.items() if query.startswith(f"{language}:")}
        row = measure(mine, queries, asked, "multilingual")
        print(f"{'xquad ' + language:24} " + " ".join(f"{value:.3f}" for value in row), flush=True)


if __name__ == "__main__":
    main()
