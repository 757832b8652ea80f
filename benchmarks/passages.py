"""How long a passage of `multilingual` should be: dense nDCG@10 at several limits in tokens.

    POLYSEEK_DATA=DIR python benchmarks/passages.py

Documents are split as a build splits them; a document counts by its best passage. XQuAD's paragraphs (about 120 words,
own-language pool) and SciFact's abstracts (about 200 words).
"""

import tempfile
from pathlib import Path

import numpy as np
from _judged import Judged, data, load, ndcg

from retriever import Collection, Encoder, SearchRequest

LIMITS = (40, 80, 120, 160, 240, 10_000)
SETS = (
    *(("xquad", "test_mono", language) for language in ("ar", "de", "en", "ru", "th", "zh")),
    ("scifact", "train", None),
)
MOST_QUERIES = 600


def measure(judged: Judged, encoder: Encoder) -> tuple[float, int]:
    """Mean nDCG@10 of dense search, and the number of passages."""
    chosen = list(judged.queries)[:MOST_QUERIES]
    with tempfile.TemporaryDirectory() as folder, Collection.create(Path(folder, "c"), encoder=encoder) as collection:
        for start in range(0, len(judged.documents), 500):
            collection.upsert(judged.documents[start : start + 500])
        requests = [SearchRequest(text=judged.queries[query], mode="dense", highlight=False) for query in chosen]
        found = [[hit.id for hit in result.hits] for result in collection.search_many(requests)]
        gained = [ndcg(ranking, judged.gains[query]) for query, ranking in zip(chosen, found, strict=True)]
        return float(np.mean(gained)), collection.info().units


def main() -> None:
    """Print a row for each set: nDCG@10 and passages at each limit."""
    root = data()
    encoder = Encoder.load("multilingual")
    print(f"{'tokens':16}" + "".join(f"{limit:>16,}" for limit in LIMITS))
    for name, split, language in SETS:
        judged = load(root / name, split, language)
        cells = []
        for limit in LIMITS:
            encoder.passage_tokens = limit
            gain, passages = measure(judged, encoder)
            cells.append(f"{gain:.3f} ({passages:,})")
        print(f"{name + ' ' + (language or ''):16}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
