"""FAISS by itself, in memory: an index-factory string as argument. HNSW is tuned by `efSearch`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from _serve import K, Vectors, serve


class RawFaiss:
    """See the module."""

    def __init__(self, factory: str) -> None:
        self._factory = factory

    def load(self, vectors: Vectors, folder: Path) -> None:
        """Build the index and write it."""
        self._index = faiss.index_factory(vectors.shape[1], self._factory, faiss.METRIC_INNER_PRODUCT)
        rows = np.ascontiguousarray(vectors)
        self._index.train(rows)
        self._index.add(rows)
        faiss.write_index(self._index, str(folder / "vectors.faiss"))

    def search(self, queries: Vectors, setting: Mapping[str, Any]) -> list[list[int]]:
        """Rows of the best."""
        params = faiss.SearchParametersHNSW(**setting) if setting else None
        _, ids = self._index.search(np.ascontiguousarray(queries), K, params=params)
        return ids.tolist()


if __name__ == "__main__":
    serve(RawFaiss(sys.argv[1]))
