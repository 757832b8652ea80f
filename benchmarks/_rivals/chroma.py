"""Chroma in this process: HNSW at its own settings. It is tuned by `ef_search`, which is part of the collection."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chromadb
from _serve import K, Vectors, serve
from chromadb.config import Settings

BATCH = 5_000


class Chroma:
    """See the module."""

    def load(self, vectors: Vectors, folder: Path) -> None:
        """Add all rows."""
        client = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
        self._collection = client.create_collection(
            "vectors", configuration={"hnsw": {"space": "ip"}}, embedding_function=None
        )
        for start in range(0, len(vectors), BATCH):
            part = vectors[start : start + BATCH]
            self._collection.add(ids=[str(start + i) for i in range(len(part))], embeddings=part)
        self._setting: Mapping[str, Any] = {}

    def search(self, queries: Vectors, setting: Mapping[str, Any]) -> list[list[int]]:
        """Query ids and distances alone."""
        if setting != self._setting:
            self._collection.modify(configuration={"hnsw": dict(setting)})
            self._setting = setting
        found = self._collection.query(query_embeddings=queries, n_results=K, include=["distances"])
        return [[int(identifier) for identifier in row] for row in found["ids"]]


if __name__ == "__main__":
    serve(Chroma())
