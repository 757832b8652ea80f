"""Ready-made vectors: `vectors.npy` (n x d, float32 or float16) beside `documents.jsonl` (n lines, same order)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.documents import Document
from retriever.errors import SourceError
from retriever.readers.base import Reject, document_or_reject, unreadable
from retriever.readers.jsonl import ENDINGS, count_records, first_file, json_records

VECTORS = "vectors.npy"
DOCUMENTS = [f"documents{ending}" for ending in ENDINGS[:3]]
BLOCK = 256


def read_vectors(folder: Path) -> Iterator[Document | Reject]:
    """The documents of a folder with their vectors, shape (d,), float32; the vectors are mapped, not loaded.

    Raises SourceError where a file is missing, the array isn't n x d of float32 or float16, or the counts differ.
    """
    documents = first_file(folder, DOCUMENTS)
    if documents is None:
        raise SourceError(f"{folder} holds no documents.jsonl", hint=f"a line for each row of {VECTORS} belongs there")
    rows, lines = len(mapped(folder / VECTORS)), count_records(documents)
    if lines != rows:
        raise SourceError(
            f"{documents} has {lines:,} documents, {folder / VECTORS} has {rows:,} vectors",
            hint="write both anew: the same number, in the same order",
        )
    # A bad line is a Reject and stands for its vector all the same.
    for vector, (line, record) in zip(_vectors(folder / VECTORS), json_records(documents), strict=True):
        if isinstance(record, Reject):
            yield record
        else:
            yield document_or_reject(record, documents, line, base=folder, vector=vector)


def _vectors(path: Path) -> Iterator[NDArray[np.float32]]:
    """Row by row, shape (d,)."""
    for start in range(0, len(mapped(path)), BLOCK):
        # Mapped anew for each block: the pages that a map has read stay resident, 1.5 GB of 1,000,000 x 384.
        yield from np.array(mapped(path)[start : start + BLOCK], dtype=np.float32)


def mapped(path: Path) -> NDArray[Any]:
    """The vectors of a `.npy` file, mapped: n x d of float32 or float16. Raises SourceError."""
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, error) from None
    if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16) or not vectors.shape[1]:
        raise SourceError(
            f"{path} holds {vectors.dtype} of shape {vectors.shape}, not float32 or float16 of shape (n, d)",
            hint="numpy.save(path, vectors.astype(numpy.float32))",
        )
    return np.asarray(vectors)
