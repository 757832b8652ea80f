"""The second stage: a cross-encoder reads query and document together and scores the pair.

Nogueira & Cho 2019 (arXiv 1901.04085). Any sentence-transformers `CrossEncoder` with one output a pair.
"""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from retriever import models
from retriever.batching import batches, in_halves
from retriever.errors import ModelUnavailable
from retriever.towers import CALL

# Tokens in one batch of pairs, as for encoders on the CPU: small batches stay in the cache.
BUDGET = 1024


class Reranker:
    """A cross-encoder ready to score. Thread-safe: one pass at a time."""

    def __init__(self, name: str, model: Any) -> None:  # noqa: ANN401 - a CrossEncoder
        """Use `Reranker.load`."""
        self.name = name
        self._model = model
        self._lock = Lock()

    @classmethod
    def load(cls, name: str | Path, *, device: str | None = None) -> Self:
        """Load a model folder or hub id. Raises ModelUnavailable, also for a model of several outputs a pair."""
        from sentence_transformers import CrossEncoder

        model = models.locate(name)
        models.require_kind(model, "CrossEncoder")
        _require_head(model)
        try:
            with models.quiet_transformers():
                loaded = CrossEncoder(
                    str(model.folder), device=device, local_files_only=True, model_kwargs={"use_safetensors": True}
                ).eval()
        except Exception as error:  # whatever a model's files may raise
            raise ModelUnavailable(
                f"{model.name} can't be loaded as a cross-encoder: {error}",
                hint="name a folder that CrossEncoder.save_pretrained wrote",
            ) from error
        if loaded.num_labels != 1:
            raise ModelUnavailable(
                f"{model.name} gives {loaded.num_labels} scores for a pair, a reranker gives 1",
                hint="use a cross-encoder that was trained to rank",
            )
        return cls(model.name, loaded)

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Scores of the pairs of the query with each text, (N,), float32; larger is better. Long pairs are cut.

        Raises ModelUnavailable for a score that is not finite.
        """
        scores = np.empty(len(texts), np.float32)
        if not texts:
            return scores
        with self._lock:
            for group in batches(self._lengths(query, texts), BUDGET, padded=True, call=CALL):
                scores[group] = in_halves([(query, texts[i]) for i in group], self._predict)
        if not np.isfinite(scores).all():
            raise ModelUnavailable(
                f"{self.name} gave a score that is not finite", hint="see that its weights are whole"
            )
        return scores

    def _lengths(self, query: str, texts: Sequence[str]) -> list[int]:
        encoded = self._model.tokenizer([query] * len(texts), list(texts), truncation=False, verbose=False)
        limit = models.max_tokens(self._model)
        return [min(len(ids), limit or len(ids)) for ids in encoded["input_ids"]]

    def _predict(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        made: NDArray[np.float32] = self._model.predict(
            list(pairs), batch_size=len(pairs), show_progress_bar=False, convert_to_numpy=True
        )
        return made.astype(np.float32)


def _require_head(model: models.Model) -> None:
    """Raise ModelUnavailable for a plain transformer without a head that scores: it would get a random one."""
    kinds = models.read_json(model.folder / "config.json").get("architectures") or ["model of no stated kind"]
    if "modules.json" not in model.digests and not any("ForSequenceClassification" in kind for kind in kinds):
        raise ModelUnavailable(
            f"{model.name} is a {kinds[0]}, not a cross-encoder", hint="use a cross-encoder that was trained to rank"
        )
