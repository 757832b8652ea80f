"""Milvus Lite through pymilvus: AUTOINDEX, which is HNSW there. A search is tuned by `ef`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _serve import K, Vectors, serve
from pymilvus import DataType, MilvusClient

BATCH = 5_000


class MilvusLite:
    """See the module."""

    def load(self, vectors: Vectors, folder: Path) -> None:
        """Insert all rows, flush and load the collection."""
        self._client = MilvusClient(str(folder / "milvus.db"))
        schema = self._client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
        self._client.create_collection("vectors", schema=schema, index_params=index)
        for start in range(0, len(vectors), BATCH):
            part = vectors[start : start + BATCH]
            self._client.insert("vectors", [{"id": start + i, "vector": row} for i, row in enumerate(part)])
        self._client.flush("vectors")
        # A collection that is loaded already gets its indices behind the caller's back, and compares every vector until
        # then, while `describe_index` calls all rows indexed; released and loaded again it builds them at once.
        self._client.release_collection("vectors")
        self._client.load_collection("vectors")
        self._check_indices(folder)

    @staticmethod
    def _check_indices(folder: Path) -> None:
        """Raise RuntimeError where a segment has no index."""
        segments = {file.stem for file in folder.rglob("data_*.parquet")}
        indexed = {file.name.split(".")[0] for file in folder.rglob("data_*.idx")}
        if not segments or segments - indexed:
            raise RuntimeError(f"{len(segments - indexed)} of {len(segments)} segments have no index")

    def search(self, queries: Vectors, setting: Mapping[str, Any]) -> list[list[int]]:
        """Query ids and distances alone."""
        params = {"params": dict(setting)} if setting else None
        found = self._client.search("vectors", data=list(queries), limit=K, search_params=params)
        return [[hit["id"] for hit in row] for row in found]


if __name__ == "__main__":
    serve(MilvusLite())
