"""What turns texts into vectors beneath an `Encoder`: one contract, kept by torch, OpenVINO and the numpy pass.

A tower first prepares texts (tokens, cut to its maximum) and then encodes batches of prepared texts; the encoder above
it makes the batches. Axes: N texts or pictures, D dimensions.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from retriever.errors import ModelUnavailable
from retriever.models import max_tokens

Role = Literal["query", "document"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One text as its tower takes it. length: its tokens after the cut, special ones and the prompt included."""

    payload: Any
    length: int
    truncated: bool


class Counter(Protocol):
    """Counts tokens."""

    def __call__(self, texts: Sequence[str], *, special: bool) -> list[int]:
        """Tokens of each text, uncut, with or without special ones."""


class TextTower(Protocol):
    """Texts to vectors.

    budget: tokens in one batch (measured, see each tower). workers: batches that it encodes side by side. padded:
    whether each text of a batch costs as much as its longest. call: tokens that take as long as a batch does by itself.
    special_tokens: what a text has beside its own.
    `prepare` and `forward` may be called by several threads at once.
    """

    backend: str
    budget: int
    workers: int
    padded: bool
    call: int
    special_tokens: int

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, uncut, without special tokens and prompt."""

    def prepare(self, texts: Sequence[str], role: Role) -> list[Prepared]:
        """Tokenise, with the role's prompt, and cut."""

    def forward(self, batch: Sequence[Prepared], role: Role) -> NDArray[np.float32]:
        """Vectors (N, D) as the model gives them."""


# Tokens that take as long as one call does beside its own, on a CPU. MiniLM, OpenVINO, one thread: 1 text of 16 tokens
# took 6.7 ms, 8 of them 30. With 32 clients' queries encoded together, 1.4 times as many a second as in full batches.
CALL = 16


def cores() -> int:
    """Cores that this process may use: its affinity, or fewer where OMP_NUM_THREADS says so."""
    available = len(os.sched_getaffinity(0))
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else available


class UseTower:
    """The embedded `multilingual` encoder: sentencepiece and numpy, no torch."""

    backend = "numpy"
    # Sentences/s on one thread with 1,024 / 4,096 / 8,192 tokens: 2,468 / 2,785 / 2,751 of one language after another,
    # 2,025 / 2,142 / 2,153 of 14 languages mixed.
    budget = 4096
    padded = False
    call = 0
    # The model has no maximum; this bounds the memory of one text. About 3,000 words.
    max_tokens = 4096
    special_tokens = 2

    def __init__(self, pieces: Path, weights: Path) -> None:
        from retriever.use_numpy import UseModel, UseTokenizer

        self.workers = cores()
        self._tokenizer, self._model = UseTokenizer(pieces), UseModel(weights)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text without begin and end."""
        return [len(ids) for ids in self._tokenizer.encode(texts)]

    def prepare(self, texts: Sequence[str], role: Role) -> list[Prepared]:
        """Ids of each text; the model has no prompts."""
        room = self.max_tokens - self.special_tokens
        return [
            Prepared(ids[:room], min(len(ids), room) + self.special_tokens, len(ids) > room)
            for ids in self._tokenizer.encode(texts)
        ]

    def forward(self, batch: Sequence[Prepared], role: Role) -> NDArray[np.float32]:
        """Vectors (N, 512) of unit length."""
        return self._model([text.payload for text in batch])


class TorchTower:
    """Any sentence-transformers model on its own device: the reference that faster backends must agree with."""

    backend = "torch"
    padded = True
    workers = 1  # torch itself uses all cores, and a GPU takes one batch at a time

    def __init__(self, model: Any, prompts: Mapping[Role, str]) -> None:  # noqa: ANN401 - a SentenceTransformer
        self._model, self._prompts = model, prompts
        self._counter = token_counter(model.tokenizer)
        # transformers' tokenizers change their own state for each call, and fail when two threads do so at once.
        self._lock = Lock()
        self.special_tokens = self._counter([""], special=True)[0]
        # On 2 cores batches of 4, 8 and 16 texts of 119 tokens went at 42, 41 and 41 texts/s, of 32 at fewer. On a GPU
        # a large batch hides its launch (128 texts of 256 tokens); that number isn't measured.
        self.budget = 32_768 if model.device.type == "cuda" else 1_024
        self.call = self.budget if model.device.type == "cuda" else CALL

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special ones."""
        with self._lock:
            return self._counter(texts, special=False)

    def prepare(self, texts: Sequence[str], role: Role) -> list[Prepared]:
        """Lengths alone: the model tokenises when it encodes, since what it makes of a text is its own affair."""
        with self._lock:
            lengths = self._counter([self._prompts[role] + text for text in texts], special=True)
        room = max_tokens(self._model) or max(lengths, default=0)
        return [Prepared(text, min(n, room), n > room) for text, n in zip(texts, lengths, strict=True)]

    def forward(self, batch: Sequence[Prepared], role: Role) -> NDArray[np.float32]:
        """Vectors (N, D) as the model gives them."""
        with self._lock:
            features = text_features(self._model, [text.payload for text in batch], self._prompts[role], role)
        return _vectors(self._model, features, task=role)


def encode_pictures(model: Any, pictures: Sequence[Image]) -> NDArray[np.float32]:  # noqa: ANN401
    """Vectors (N, D) of pictures as the model gives them."""
    features = model.preprocess(list(pictures), modality="image")
    return _vectors(model, features, modality="image")


def text_features(model: Any, texts: Sequence[str], prompt: str, role: Role) -> dict[str, Any]:  # noqa: ANN401
    """The model's own features of texts, encoded as text whatever they look like.

    sentence-transformers opens or fetches a bare string that is a picture's path or URL; one named as text it doesn't.
    """
    from sentence_transformers.base.modules import Router, Transformer

    module: Any = model[0]
    named: dict[str, str] = {}
    if isinstance(module, Router):
        named = {"modality": "text"}
        route: Any = module.sub_modules[module._resolve_route(task=role, modality="text") or "text"]
        module = route[0]
    # Modules other than a Transformer know strings only, and open none.
    inputs: list[Any] = [{"text": text} for text in texts] if isinstance(module, Transformer) else list(texts)
    features: dict[str, Any] = model.preprocess(inputs, prompt=prompt or None, task=role, **named)
    return features


def token_counter(tokenizer: Any) -> Counter:  # noqa: ANN401 - of several libraries
    """A function from texts, and whether special tokens count, to numbers of tokens.

    Raises ModelUnavailable for a tokenizer of another kind than transformers', tokenizers' or ours.
    """
    import tokenizers
    from transformers import PreTrainedTokenizerBase

    from retriever.use_numpy import UseTokenizer

    def transformers(texts: Sequence[str], *, special: bool) -> list[int]:
        encoded = tokenizer(list(texts), add_special_tokens=special, truncation=False, padding=False, verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def plain(texts: Sequence[str], *, special: bool) -> list[int]:
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=special)]

    def use(texts: Sequence[str], *, special: bool) -> list[int]:
        return [len(ids) + UseTower.special_tokens * special for ids in tokenizer.encode(texts)]

    kinds = ((PreTrainedTokenizerBase, transformers), (tokenizers.Tokenizer, plain), (UseTokenizer, use))
    for kind, counter in kinds:
        if isinstance(tokenizer, kind):
            return counter
    raise ModelUnavailable(
        f"tokens of a {type(tokenizer).__name__} can't be counted",
        hint="use a model with a tokenizer of transformers or tokenizers",
    )


def _vectors(model: Any, features: dict[str, Any], **routing: str) -> NDArray[np.float32]:  # noqa: ANN401
    import torch
    from sentence_transformers.util import batch_to_device

    with torch.inference_mode():
        output = model(batch_to_device(features, model.device), **routing)["sentence_embedding"]
        vectors: NDArray[np.float32] = output.float().cpu().numpy()
    return vectors
