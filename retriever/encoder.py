"""Texts and pictures to vectors: one face over every model and every backend.

Texts are prepared in chunks, batched by their lengths to the tower's token budget and encoded on as many threads as the
tower works with, while the next chunk is tokenised. A call of a few short texts stays on the calling thread, so that
requests of several threads run side by side without disturbing each other. Axes: N texts or pictures, D dimensions.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from retriever import backends, models
from retriever.batching import batches, in_halves
from retriever.errors import InvalidRequest, ModelUnavailable, UnsupportedModality
from retriever.families import Similarity
from retriever.models import Conventions, Modality, Model, Traits
from retriever.towers import Prepared, Role, TextTower, TorchTower, UseTower, encode_pictures
from retriever.use_numpy import DIMENSION

logger = logging.getLogger(__name__)

# Texts tokenised at a time: 2,048 of 150 tokens are 0.1 s of tokenising against some 10 s of encoding.
CHUNK = 2048
# Fewer tokens than this aren't shared among threads: handing over costs more than it saves.
SHARED_FROM = 256
PICTURES_IN_BATCH = 32
# The most that a passage takes, whatever the model's maximum. `multilingual` has none: dense nDCG@10 on XQuAD with 40 /
# 80 / 120 / 160 / 240 tokens, the mean of six languages: .900 / .884 / .882 / .874 / .875 (benchmarks/passages.py). 40
# tokens make three times the vectors of 120, and too little text for the lexical side's words to meet in.
PASSAGE_TOKENS = {"multilingual": 120}
PASSAGE_TOKENS_ELSE = 256


@dataclass(frozen=True, slots=True)
class Encoded:
    """vectors: (N, D), float32, C-contiguous. truncated: (N,), whether a text was cut at the model's maximum."""

    vectors: NDArray[np.float32]
    truncated: NDArray[np.bool_]


class Encoder:
    """A model ready to encode. Thread-safe.

    fingerprint: hex, over all that decides the vectors (the backend doesn't). dimension: after `truncate_dim`.
    similarity: how its vectors are compared; those of a cosine encoder have unit length. max_tokens: with special
    tokens, None where there is no maximum. passage_tokens: the most of `count_tokens` that one passage may have.
    languages: canonical tags, empty where the model states none.
    """

    def __init__(self, model: Model, how: Conventions, parts: "Parts") -> None:
        """Use `Encoder.load`. Raises ModelUnavailable where `truncate_dim` isn't among the model's dimensions."""
        self.name = model.name
        self.fingerprint = models.fingerprint(model, how)
        self.dimension = parts.traits.dimension if how.truncate_dim is None else how.truncate_dim
        if not 1 <= self.dimension <= parts.traits.dimension:
            raise ModelUnavailable(
                f"{model.name} has {parts.traits.dimension} dimensions, truncate_dim asks for {how.truncate_dim}",
                hint=f"ask for 1 to {parts.traits.dimension}",
            )
        self.similarity: Similarity = how.similarity
        self.modalities: frozenset[Modality] = parts.traits.modalities
        self.max_tokens = parts.traits.max_tokens
        self.languages = how.languages
        self._shorter = tuple(sorted(d for d in how.matryoshka if 1 <= d < self.dimension))
        self.query_prompt, self.document_prompt = how.query_prompt, how.document_prompt
        self.backend = parts.tower.backend if parts.tower else "torch"
        self._parts = parts
        self._budget = parts.tower.budget if parts.tower else 0
        # They start no thread before it is needed. Queries don't queue behind the batches of many documents.
        roles: tuple[Role, ...] = ("query", "document")
        workers = parts.tower.workers if parts.tower else 1
        self._pools = {role: ThreadPoolExecutor(workers, f"polyseek-{role}") for role in roles}
        self._passage_limit = PASSAGE_TOKENS.get(model.embedded or "", PASSAGE_TOKENS_ELSE)

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        device: str | None = None,
        truncate_dim: int | None = None,
        trust_remote_code: bool = False,
    ) -> Self:
        """Load an embedded encoder (`multilingual`, `english`), a model folder or a hub id.

        device: as torch names it; None takes a GPU where there is one. truncate_dim: keep the first dimensions only
        (Matryoshka models). trust_remote_code: run code that the model's folder brings. Raises ModelUnavailable,
        MissingDependency.
        """
        model = models.locate(name)
        how = models.conventions(model)
        if truncate_dim is not None:
            how = replace(how, truncate_dim=truncate_dim)

        def load() -> Any:  # noqa: ANN401 - a SentenceTransformer
            return models.load(model, how, device=device, trust_remote_code=trust_remote_code)

        return cls(
            model, how, _multilingual(model) if model.embedded == "multilingual" else _any(model, how, device, load)
        )

    @cached_property
    def passage_tokens(self) -> int:
        """The most tokens, as `count_tokens` counts them, that one passage may have so that nothing of it is cut."""
        if self.max_tokens is None:
            return self._passage_limit
        tower = self._tower()
        prompt = tower.count([self.document_prompt])[0] if self.document_prompt else 0
        return max(1, min(self._passage_limit, self.max_tokens - tower.special_tokens - prompt))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, uncut, without special tokens and prompts."""
        _check(texts)
        return self._tower().count(texts) if texts else []

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """Vectors of queries. Raises UnsupportedModality, InvalidRequest (a lone surrogate), ModelUnavailable."""
        return self._encode(texts, "query")

    def encode_documents(self, texts: Sequence[str]) -> Encoded:
        """Vectors of passages or captions. Raises UnsupportedModality, InvalidRequest, ModelUnavailable."""
        return self._encode(texts, "document")

    def encode_images(self, pictures: Sequence[Image]) -> NDArray[np.float32]:
        """Vectors of RGB pictures, (N, D), float32. Raises UnsupportedModality, ModelUnavailable."""
        if "image" not in self.modalities:
            raise UnsupportedModality(
                f"{self.name} has no tower for pictures", hint="use a two-tower model, or search by text"
            )
        vectors = np.empty((len(pictures), self.dimension), np.float32)
        model = self._parts.loaded() if pictures else None
        for start in range(0, len(pictures), PICTURES_IN_BATCH):
            batch = list(pictures[start : start + PICTURES_IN_BATCH])
            vectors[start : start + len(batch)] = self._finished(
                in_halves(batch, lambda part: encode_pictures(model, part))
            )
        return vectors

    def check_dimension(self, dimension: int) -> None:
        """Raise InvalidRequest unless its vectors may be cut to so many dimensions.

        The model must state it (Matryoshka; Kusupati et al. 2022, arXiv 2205.13147): of any other the first dimensions
        alone mean little.
        """
        if dimension not in (*self._shorter, self.dimension):
            known = ", ".join(map(str, (*self._shorter, self.dimension)))
            raise InvalidRequest(f"this model gives no vectors of {dimension} dimensions", hint=f"ask for {known}")

    def shortened(self, vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
        """Its vectors (N, D) cut to (N, dimension), as with `truncate_dim`; those of a cosine encoder keep unit length.

        Raises InvalidRequest as `check_dimension` does.
        """
        self.check_dimension(dimension)
        return self._finished(vectors[:, :dimension])

    def prepare(self, texts: Sequence[str], role: Role) -> list[Prepared]:
        """Tokenise, with the role's prompt, and cut: the first step of encoding, for who makes batches by length.

        Raises as `encode_queries` does.
        """
        _check(texts)
        return self._tower().prepare(texts, role) if texts else []

    def encode_prepared(self, prepared: Sequence[Prepared], role: Role) -> NDArray[np.float32]:
        """The second step: vectors (N, D), float32, C-contiguous, of texts that `prepare` made for the same role."""
        tower = self._tower()
        vectors = np.empty((len(prepared), self.dimension), np.float32)
        shared = -(-sum(text.length for text in prepared) // tower.workers)
        budget = min(self._budget, max(SHARED_FROM, shared))
        groups = batches([text.length for text in prepared], budget, padded=tower.padded, call=tower.call)
        run = map if tower.workers == 1 or len(groups) == 1 else self._pools[role].map
        made = run(partial(self._forward, prepared, role), groups)
        for group, part in zip(groups, made, strict=True):
            vectors[group] = part
        return vectors

    @property
    def batch_tokens(self) -> int:
        """So many tokens keep all of its threads busy with one full batch each; 0 without a tower for text."""
        return self._budget * self._parts.tower.workers if self._parts.tower else 0

    def _encode(self, texts: Sequence[str], role: Role) -> Encoded:
        _check(texts)
        vectors = np.empty((len(texts), self.dimension), np.float32)
        truncated = np.zeros(len(texts), np.bool_)
        for start, prepared in self._chunks(texts, role):
            part = slice(start, start + len(prepared))
            truncated[part] = [text.truncated for text in prepared]
            vectors[part] = self.encode_prepared(prepared, role)
        return Encoded(vectors, truncated)

    def _chunks(self, texts: Sequence[str], role: Role) -> Iterator[tuple[int, list[Prepared]]]:
        """Prepared texts with their place, each chunk tokenised while the one before it is encoded."""
        prepare = self._tower().prepare
        if len(texts) <= CHUNK:
            yield 0, prepare(texts, role) if texts else []
            return
        starts = range(0, len(texts), CHUNK)
        pool = self._pools[role]
        ahead = pool.submit(prepare, texts[:CHUNK], role)
        for start in starts:
            prepared = ahead.result()
            if start + CHUNK < len(texts):
                ahead = pool.submit(prepare, texts[start + CHUNK : start + 2 * CHUNK], role)
            yield start, prepared

    def _forward(self, prepared: Sequence[Prepared], role: Role, group: list[int]) -> NDArray[np.float32]:
        batch = [prepared[i] for i in group]
        return self._finished(in_halves(batch, lambda part: self._tower().forward(part, role), self._halve))

    def _halve(self) -> None:
        """After running out of memory: smaller batches from now on."""
        self._budget = max(1, self._budget // 2)
        logger.warning("%s ran out of memory: batches of %d tokens from now on", self.name, self._budget)

    def _finished(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors cut to the dimensions asked for, and of unit length where they are compared by cosine."""
        kept = vectors[:, : self.dimension]
        if not np.isfinite(kept).all():
            raise ModelUnavailable(
                f"{self.name} gave a vector with a number that is not finite",
                hint="see that its weights are whole, and whether it works in float32 on this device",
            )
        if self.similarity == "dot":
            return kept
        lengths = np.linalg.norm(kept, axis=1, keepdims=True)
        unit: NDArray[np.float32] = kept / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit

    def _tower(self) -> TextTower:
        if self._parts.tower is None:
            raise UnsupportedModality(f"{self.name} has no tower for text", hint="use a two-tower model")
        return self._parts.tower


@dataclass(frozen=True, slots=True)
class Parts:
    """What an encoder stands on. tower: None without text. loaded: its SentenceTransformer, for pictures."""

    traits: Traits
    tower: TextTower | None
    loaded: Callable[[], Any]


class _Once:
    """A function without arguments whose result is made once, whichever thread comes first."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self._lock, self._made = make, Lock(), None

    def __call__(self) -> Any:  # noqa: ANN401 - whatever `make` makes
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


def _multilingual(model: Model) -> Parts:
    tower = UseTower(model.folder / "sp.model", model.folder / "weights.npz")
    return Parts(Traits(DIMENSION, UseTower.max_tokens, frozenset({"text"})), tower, _Once(lambda: None))


def _any(model: Model, how: Conventions, device: str | None, load: Callable[[], Any]) -> Parts:
    """The converted model where it is the fastest and agrees, else torch's."""
    loaded = _Once(load)
    converts = backends.available() and (device == "cpu" or (device is None and not _gpu()))
    if converts and (tower := backends.open_converted(model, how)) is not None:
        return Parts(tower.traits, tower, loaded)
    traits = models.traits(loaded())
    if "text" not in traits.modalities:
        return Parts(traits, None, loaded)
    if converts and (tower := backends.convert(loaded(), model, how)) is not None:
        # Nothing needs torch's copy any more, but pictures.
        return Parts(traits, tower, loaded if "image" in traits.modalities else _Once(load))
    return Parts(traits, TorchTower(loaded(), how.prompts), loaded)


def _gpu() -> bool:
    """Whether torch would take another device than the CPU; torch is only asked where a GPU's driver is there."""
    drivers = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    if sys.platform == "linux" and not any(Path(driver).exists() for driver in drivers):
        return False
    from sentence_transformers.util import get_device_name

    return get_device_name() != "cpu"


def _check(texts: Sequence[str]) -> None:
    for i, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"text {i} holds a lone surrogate at character {error.start}", hint="send valid Unicode"
            ) from None
