"""Chroma in this process: HNSW at its own settings, tuned by `ef_search`.

`ef_search` belongs to the collection, and an open one goes on with the value that it was opened with, while its
configuration shows the new one (20,000 rows: recall .993 before and after a change from 100 to 10, .862 once opened
again). So a change of setting closes and opens it; the first search of a turn, which isn't counted, loads the index.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chromadb
from _serve import K, Vectors, serve
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import Settings

BATCH = 5_000
NAME = "vectors"


class Chroma:
    """See the module."""

    def load(self, vectors: Vectors, folder: Path) -> None:
        """Add all rows."""
        self._folder = folder
        self._open()
        configuration = {"hnsw": {"space": "ip"}}
        self._collection = self._client.create_collection(NAME, configuration=configuration, embedding_function=None)
        for start in range(0, len(vectors), BATCH):
            part = vectors[start : start + BATCH]
            self._collection.add(ids=[str(start + i) for i in range(len(part))], embeddings=part)
        self._default = {"ef_search": self._collection.configuration["hnsw"]["ef_search"]}
        self._setting = self._default

    def search(self, queries: Vectors, setting: Mapping[str, Any]) -> list[list[int]]:
        """Query ids and distances alone."""
        wanted = dict(setting) or self._default
        if wanted != self._setting:
            self._collection.modify(configuration={"hnsw": wanted})
            self._client.close()
            SharedSystemClient.clear_system_cache()
            self._open()
            self._collection = self._client.get_collection(NAME, embedding_function=None)
            self._setting = wanted
        found = self._collection.query(query_embeddings=queries, n_results=K, include=["distances"])
        return [[int(identifier) for identifier in row] for row in found["ids"]]

    def _open(self) -> None:
        self._client = chromadb.PersistentClient(str(self._folder), settings=Settings(anonymized_telemetry=False))


if __name__ == "__main__":
    serve(Chroma())
