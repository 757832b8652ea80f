"""LanceDB in this process: the index that it makes by default. A search is tuned by `nprobes` and `refine_factor`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from _serve import K, Vectors, serve
from lancedb.index import IvfPq

BATCH = 10_000


class Lance:
    """See the module."""

    def load(self, vectors: Vectors, folder: Path) -> None:
        """Add all rows, then make the index."""
        parts = (_table(vectors[start : start + BATCH], start) for start in range(0, len(vectors), BATCH))
        self._table = lancedb.connect(str(folder)).create_table("vectors", next(parts))
        for part in parts:
            self._table.add(part)
        self._table.create_index("vector", config=IvfPq(distance_type="dot"))

    def search(self, queries: Vectors, setting: Mapping[str, Any]) -> list[list[int]]:
        """Query ids and distances alone; rows of several queries come with the number of theirs."""
        query = self._table.search(queries if len(queries) > 1 else queries[0]).distance_type("dot")
        for name, value in setting.items():
            query = getattr(query, name)(value)
        found = query.select(["id", "_distance"]).limit(K).to_arrow()
        ids = found["id"].to_numpy()
        if len(queries) == 1:
            return [ids.tolist()]
        numbers = found["query_index"].to_numpy()
        return [ids[numbers == number].tolist() for number in range(len(queries))]


def _table(vectors: Vectors, start: int) -> pa.Table:
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors).ravel()), vectors.shape[1])
    return pa.table({"id": pa.array(np.arange(start, start + len(vectors))), "vector": values})


if __name__ == "__main__":
    serve(Lance())
