"""What turns texts into vectors beneath an `Encoder`: one contract, kept by torch, OpenVINO and the numpy pass.

A tower first prepares texts (tokens, cut to its maximum) and then encodes batches of prepared texts; the encoder above
it makes the batches. Axes: N texts, D dimensions.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from retriever.errors import ModelUnavailable

Role = Literal["query", "document"]
Counter = Callable[[Sequence[str], bool], list[int]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One text as its tower takes it. length: its tokens after the cut, special ones and the prompt included."""

    payload: Any
    length: int
    truncated: bool


class TextTower(Protocol):
    """Texts to vectors.

    budget: tokens in one batch (measured, see each tower). workers: batches that it encodes side by side. padded: whether
    each text of a batch costs as much as its longest. `forward` may be called by several threads at once.
    """

    backend: str
    budget: int
    workers: int
    padded: bool

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, uncut, without special tokens and prompt."""

    def prepare(self, texts: Sequence[str], role: Role) -> list[Prepared]:
        """Tokenise, with the role's prompt, and cut."""

    def forward(self, batch: Sequence[Prepared], role: Role) -> NDArray[np.float32]:
        """Vectors (N, D) as the model gives them."""


def cores() -> int:
    """Cores that this process may use: its affinity, or fewer where OMP_NUM_THREADS says so."""
    available = len(os.sched_getaffinity(0))
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else available


class UseTower:
    """The embedded `multilingual` encoder: sentencepiece and numpy, no torch."""

    backend = "numpy"
    # Measured: docs/encoders.md.
    budget = 4096
    padded = False
    # The model has no maximum; this bounds the memory of one text. About 3,000 words.
    max_tokens = 4096

    def __init__(self, pieces: Path, weights: Path) -> None:
        from retriever.use_numpy import UseModel, UseTokenizer

        self.workers = cores()
        self._tokenizer, self._model = UseTokenizer(pieces), UseModel(weights)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without begin and end."""
        return [len(ids) for ids in self._tokenizer.encode(texts)]

    def prepare(self, texts: Sequence[str], role: Role) -> list[Prepared]:  # noqa: ARG002 - it has no prompts
        """Ids of each text; the model has no prompts."""
        room = self.max_tokens - 2
        return [
            Prepared(ids[:room], min(len(ids), room) + 2, len(ids) > room) for ids in self._tokenizer.encode(texts)
        ]

    def forward(self, batch: Sequence[Prepared], role: Role) -> NDArray[np.float32]:  # noqa: ARG002
        """Vectors (N, 512) of unit length."""
        return self._model([text.payload for text in batch])


class TorchTower:
    """Any sentence-transformers model on its own device: the reference that faster backends must agree with."""

    backend = "torch"
    padded = True
    workers = 1  # torch itself uses all cores, and a GPU takes one batch at a time

    def __init__(self, model: Any, prompts: dict[Role, str]) -> None:  # noqa: ANN401 - a SentenceTransformer
        self._model, self._prompts = model, prompts
        self._count = token_counter(model.tokenizer)
        self._special = self._count([""], True)[0]
        self._room = model.max_seq_length
        # On a GPU a large batch hides its launch time; on a CPU small ones stay in the cache (docs/encoders.md).
        self.budget = 32_768 if model.device.type == "cuda" else 1_024

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special ones."""
        return self._count(texts, False)

    def prepare(self, texts: Sequence[str], role: Role) -> list[Prepared]:
        """Lengths; the model tokenises again when it encodes, since what it makes of a text is its own affair."""
        prompt = self._prompts[role]
        lengths = self._count([prompt + text for text in texts], True)
        room = self._room or max(lengths, default=0)
        return [Prepared(text, min(n, room), n > room) for text, n in zip(texts, lengths, strict=True)]

    def forward(self, batch: Sequence[Prepared], role: Role) -> NDArray[np.float32]:
        """Vectors (N, D) as the model gives them."""
        # A bare string that looks like a picture's path or URL would be opened as one; named as text it never is.
        return run_model(
            self._model, [{"text": text.payload} for text in batch], prompt=self._prompts[role] or None, task=role
        )
