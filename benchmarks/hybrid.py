"""Dense, lexical and hybrid side by side at several weights: nDCG@10 of each on data with judgements.

The weights of `retriever/search.py` were chosen on tldr's development queries (short documents in many languages) and
SciFact's training queries; XQuAD is where they are held against their sides. Reads POLYSEEK_DATA.
"""

import tempfile
from pathlib import Path

import numpy as np
from _judged import Judged, data, load, ndcg

from retriever import Collection, Encoder, SearchRequest
from retriever.fusion import fuse

LEXICAL_WEIGHTS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
DEPTH = 200
TUNING = (("tldr/desc2page", "dev"), ("scifact", "train"))
LANGUAGES = ("ar", "de", "ru", "th", "zh")
MOST_QUERIES = 2000


def measure(judged: Judged, model: str) -> list[float]:
    """Mean nDCG@10 of dense, lexical and hybrid as served, and of hybrid at each fixed weight."""
    chosen = list(judged.queries)[:MOST_QUERIES]
    with (
        tempfile.TemporaryDirectory() as folder,
        Collection.create(Path(folder, "c"), encoder=Encoder.load(model), passages="none") as collection,
    ):
        for start in range(0, len(judged.documents), 500):
            collection.upsert(judged.documents[start : start + 500])
        rankings = {mode: _rankings(collection, judged, chosen, mode) for mode in ("dense", "lexical", "hybrid")}
    systems = list(rankings.values())
    for weight in LEXICAL_WEIGHTS:
        pairs = zip(rankings["dense"], rankings["lexical"], strict=True)
        systems.append([[d for d, _ in fuse([(1 - weight, one), (weight, other)])] for one, other in pairs])
    return [
        float(np.mean([ndcg(ranking, judged.gains[query]) for query, ranking in zip(chosen, system, strict=True)]))
        for system in systems
    ]


def _rankings(collection: Collection, judged: Judged, chosen: list[str], mode: str) -> list[list[str]]:
    requests = [SearchRequest(text=judged.queries[query], mode=mode, k=DEPTH, highlight=False) for query in chosen]
    return [[hit.id for hit in result.hits] for result in collection.search_many(requests)]


def main() -> None:
    """Print one row for each data set."""
    root = data()
    print(f"{'':24} dense lexical served " + " ".join(f"{weight:.2f}" for weight in LEXICAL_WEIGHTS))
    sets = [(*pair, None) for pair in TUNING] + [("xquad", "test_mono", language) for language in LANGUAGES]
    for name, split, language in sets:
        row = measure(load(root / name, split, language), "multilingual")
        print(f"{name + ' ' + (language or ''):24} " + " ".join(f"{value:.3f}" for value in row), flush=True)


if __name__ == "__main__":
    main()
