"""A cross-encoder as second stage: it reads a query and a text together. Nogueira and Cho 2019 (arXiv 1901.04085)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.errors import ModelUnavailable
from retriever.models import locate

# Pairs read side by side: their lengths differ, and a batch is padded to its longest.
BATCH = 16


class Reranker:
    """A sentence-transformers cross-encoder with one score a pair; larger is better."""

    def __init__(self, name: str, model: Any) -> None:  # noqa: ANN401 - a CrossEncoder
        self.name = name
        self._model = model

    @classmethod
    def load(cls, name: str | Path, *, device: str | None = None) -> "Reranker":
        """A cross-encoder from a local folder or the hub. Raises ModelUnavailable."""
        from sentence_transformers import CrossEncoder

        model = locate(name)
        try:
            loaded = CrossEncoder(str(model.folder), device=device, model_kwargs={"use_safetensors": True})
        except Exception as error:  # whatever a model's files may raise
            raise ModelUnavailable(
                f"{name} can't be loaded as a cross-encoder: {error}",
                hint="name a folder or hub id that CrossEncoder(NAME) loads",
            ) from error
        if loaded.num_labels != 1:
            raise ModelUnavailable(
                f"{name} gives {loaded.num_labels} scores a pair, a reranker gives one",
                hint="name a cross-encoder trained for ranking",
            )
        return cls(str(name), loaded)

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """The score of each text for the query, float32 (N,)."""
        if not texts:
            return np.empty(0, dtype=np.float32)
        pairs = [(query, text) for text in texts]
        scores = self._model.predict(pairs, batch_size=BATCH, show_progress_bar=False)
        return np.asarray(scores, dtype=np.float32).reshape(len(texts))
