"""A collection of ready-made vectors, its index kind and parameters as it chooses them."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _serve import K, Vectors, serve

from retriever import Collection, Document
from retriever.errors import PolyseekError
from retriever.requests import SearchRequest, SearchResult

BATCH = 5_000


class Polyseek:
    """See the module."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def load(self, vectors: Vectors, folder: Path) -> None:
        """Put all documents, then build the index."""
        self._collection = Collection.create(folder / "vectors", encoder=None, kind=self._kind)
        for start in range(0, len(vectors), BATCH):
            part = vectors[start : start + BATCH]
            self._collection.upsert([Document(id=str(start + i), vector=row) for i, row in enumerate(part)])
        self._collection.optimize()
        info = self._collection.info()
        print(f"polyseek's index: {info.kind}, recall {info.recall}", file=sys.stderr)

    def search(self, queries: Vectors, setting: Mapping[str, Any]) -> list[list[int]]:
        """Whole hits, with their documents."""
        del setting  # the collection tuned itself
        found = self._collection.search_many([SearchRequest(vector=query.tolist(), k=K) for query in queries])
        return [[int(hit.id) for hit in _answered(result).hits] for result in found]


def _answered(result: SearchResult | PolyseekError) -> SearchResult:
    if isinstance(result, PolyseekError):
        raise result
    return result


if __name__ == "__main__":
    serve(Polyseek(sys.argv[1]))
