"""From requests to queries: modes decided, texts and pictures encoded, stored documents turned into vectors.

A request is checked first, which is cheap; then what its query names is encoded, here or by whoever encodes the queries
of many callers together; what depends on the generation comes last.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from retriever.analysis import query_terms
from retriever.encoder import Encoder
from retriever.errors import (
    InvalidDocument,
    InvalidRequest,
    NoReranker,
    PolyseekError,
    UnknownDocument,
    UnsupportedModality,
)
from retriever.languages import canonical
from retriever.pictures import open_picture
from retriever.reader import Reader
from retriever.records import Settings
from retriever.requests import DENSE_WINDOW, RERANKED, WINDOW, Mode, SearchRequest
from retriever.units import scaled
from retriever.view import Terms, View

# Components of a query: their products with a stored vector must stay within float32.
MAX_COMPONENT = 1e18


@dataclass(slots=True)
class Query:
    """A request made ready.

    vector: float32 (D,), None where nothing is compared, or not yet. terms: the analysed words of the text. excluded:
    keys of documents. encode_ms, queue_ms: what encoding took, and how long it was waited for.
    """

    request: SearchRequest
    mode: Mode
    settings: Settings
    vector: NDArray[np.float32] | None = None
    terms: Terms = ()
    excluded: frozenset[int] = frozenset()
    truncated: bool = False
    encode_ms: float = 0.0
    queue_ms: float = 0.0

    @property
    def window(self) -> int:
        """How many members each side retrieves."""
        return DENSE_WINDOW if self.mode == "dense" and self.request.offset + self.request.k > WINDOW else WINDOW

    @property
    def text_to_encode(self) -> str | None:
        """The text whose vector `add_text` still has to bring."""
        return None if self.mode == "lexical" or self.vector is not None else self.request.text

    @property
    def picture_to_encode(self) -> bytes | None:
        """The picture whose vector `add_picture` has to bring, after the text's where there are both."""
        return None if self.mode == "lexical" else self.request.image

    def add_text(
        self, vector: NDArray[np.float32], *, truncated: bool, encode_ms: float, queue_ms: float = 0.0
    ) -> None:
        """Take the vector (D,) of the text."""
        self.vector, self.truncated = vector, truncated
        self.encode_ms += encode_ms
        self.queue_ms += queue_ms

    def add_picture(self, vector: NDArray[np.float32], *, encode_ms: float, queue_ms: float = 0.0) -> None:
        """Take the vector (D,) of the picture; mixed with the text's: weight * image + (1 - weight) * text."""
        if self.vector is not None:
            weight = self.request.image_weight
            vector = scaled((weight * vector + (1 - weight) * self.vector).astype(np.float32), self.settings)
        self.vector = vector
        self.encode_ms += encode_ms
        self.queue_ms += queue_ms


def make_queries(
    requests: Sequence[SearchRequest], settings: Settings, *, reranks: bool
) -> list[Query | PolyseekError]:
    """A query for each request, or why there is none; nothing is encoded. reranks: whether there is a cross-encoder."""
    queries: list[Query | PolyseekError] = []
    for request in requests:
        try:
            _check(request, settings, reranks=reranks)
            queries.append(_query(request, settings))
        except PolyseekError as error:
            queries.append(error)
    return queries


def encode_queries(
    queries: Sequence[Query | PolyseekError], load: Callable[[], Encoder | None]
) -> list[Query | PolyseekError]:
    """The queries with their vectors, all texts encoded in one call; `load` is called where there is something to."""
    answers = list(queries)
    valid = [query for query in queries if isinstance(query, Query)]
    texts = [query for query in valid if query.text_to_encode is not None]
    pictures = any(query.picture_to_encode is not None for query in valid)
    encoder = load() if texts or pictures else None
    if encoder is None:
        return answers
    _encode_texts(texts, encoder)
    for place, query in enumerate(answers):
        if isinstance(query, Query) and query.picture_to_encode is not None:
            try:
                _encode_picture(query, query.picture_to_encode, encoder)
            except PolyseekError as error:
                answers[place] = error
    return answers


def complete(query: Query, settings: Settings, view: View, reader: Reader) -> None:
    """Add what depends on the generation: the vector of stored documents, the words of the languages that occur."""
    request = query.request
    if request.like is not None:
        query.vector, query.excluded = _like(request.like, settings, reader)
    if request.text is not None:
        languages = (canonical(request.language),) if request.language is not None else view.languages
        query.terms = query_terms(request.text, languages)


def _check(request: SearchRequest, settings: Settings, *, reranks: bool) -> None:
    """Raise InvalidRequest or UnsupportedModality where the members don't go together, or not with this collection."""
    _check_members(request)
    if request.image is not None and "image" not in settings.towers:
        raise UnsupportedModality(
            f"the collection's encoder {settings.encoder} has no picture tower",
            hint="search with a text, or build the collection with a two-tower encoder",
        )
    if request.vector is not None:
        _check_vector(request.vector, settings)
    if request.rerank and not reranks:
        raise NoReranker("no reranker is configured", hint="name a cross-encoder in POLYSEEK_RERANKER")
    if request.rerank and request.text is None:
        raise InvalidRequest("rerank needs a text", hint="give text, or leave rerank out")
    if request.min_score is not None and _mode(request, settings) == "hybrid" and not request.rerank:
        raise InvalidRequest("min_score doesn't go with a fused score", hint="use mode dense or lexical, or rerank")
    _check_mode(request, settings)


def _check_members(request: SearchRequest) -> None:
    given = [name for name in ("text", "image", "like", "vector") if getattr(request, name) is not None]
    if not given:
        raise InvalidRequest("nothing to search for", hint="give one of text, image, like and vector")
    for one, other in (("like", "text"), ("like", "image"), ("like", "vector"), ("image", "vector")):
        if one in given and other in given:
            raise InvalidRequest(f"{one} and {other} don't go together", hint=f"give either {one} or {other}")
    if request.text is not None and not request.text.strip():
        raise InvalidRequest("text is empty", hint="give at least one word")
    if request.text is not None and request.text.encode("utf-8", "ignore").decode() != request.text:
        raise InvalidRequest("text holds a lone surrogate", hint="send valid Unicode")
    if request.language is not None:
        _canonical(request.language)


def _check_mode(request: SearchRequest, settings: Settings) -> None:
    mode = _mode(request, settings)
    if mode in ("lexical", "hybrid") and request.text is None:
        raise InvalidRequest(f"mode {mode} needs a text", hint="give text, or use mode dense")
    no_vector = request.vector is None and request.like is None
    if mode in ("dense", "hybrid") and settings.encoder is None and no_vector:
        raise InvalidRequest(
            f"mode {mode} needs a vector or a like: the collection has no encoder",
            hint="give vector or like, or use mode lexical",
        )
    limit, what = (WINDOW, f"in mode {mode}") if mode != "dense" else (DENSE_WINDOW, "in mode dense")
    if request.rerank:
        limit, what = RERANKED, "with rerank"
    if request.offset + request.k > limit:
        raise InvalidRequest(
            f"offset + k is at most {limit} {what}, got {request.offset} + {request.k}",
            hint="narrow the search with a filter, or walk all documents with the scroll",
        )


def _check_vector(vector: Sequence[float], settings: Settings) -> None:
    if settings.dimension is not None and len(vector) != settings.dimension:
        raise InvalidRequest(f"vector has {len(vector)} dimensions, the collection's have {settings.dimension}")
    # Not a number is neither below nor above.
    if not (np.abs(np.asarray(vector, dtype=np.float64)) < MAX_COMPONENT).all():
        raise InvalidRequest("vector holds a number that is not finite in 32 bits")


def _canonical(language: str) -> str:
    try:
        return canonical(language)
    except ValueError as error:
        raise InvalidRequest(f"language: {error}") from None


def _mode(request: SearchRequest, settings: Settings) -> Mode:
    if request.mode is not None:
        return request.mode
    if request.text is None:
        return "dense"
    return "hybrid" if settings.encoder is not None or request.vector is not None else "lexical"


def _query(request: SearchRequest, settings: Settings) -> Query:
    query = Query(request, _mode(request, settings), settings)
    if request.vector is not None and query.mode != "lexical":
        query.vector = scaled(np.asarray(request.vector, dtype=np.float32), settings)
    return query


def _encode_texts(queries: Sequence[Query], encoder: Encoder) -> None:
    if not queries:
        return
    started = time.perf_counter()
    encoded = encoder.encode_queries([str(query.text_to_encode) for query in queries])
    share = (time.perf_counter() - started) * 1e3 / len(queries)
    for query, vector, cut in zip(queries, encoded.vectors, encoded.truncated, strict=True):
        query.add_text(vector, truncated=bool(cut), encode_ms=share)


def _encode_picture(query: Query, data: bytes, encoder: Encoder) -> None:
    started = time.perf_counter()
    vector = encoder.encode_images([opened(data)])[0]
    query.add_picture(vector, encode_ms=(time.perf_counter() - started) * 1e3)


def opened(data: bytes) -> Image:
    """The picture of a query, RGB. Raises InvalidRequest."""
    try:
        return open_picture(data)
    except InvalidDocument as error:
        raise InvalidRequest(str(error), hint="send a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file") from None


def _like(like: str | Sequence[str], settings: Settings, reader: Reader) -> tuple[NDArray[np.float32], frozenset[int]]:
    """The mean of the documents' unit vectors in one modality, and the documents' keys."""
    ids = [like] if isinstance(like, str) else list(dict.fromkeys(like))
    keys = reader.document_keys(ids)
    if missing := [identifier for identifier in ids if identifier not in keys]:
        raise UnknownDocument(f"like: no document {missing[0]!r} in the collection")
    if not keys:
        raise InvalidRequest("like names no document")
    assert settings.dimension is not None
    groups = reader.units_of(list(keys.values())).values()
    for pictures in (False, True):
        chosen = [[unit.key for unit in units if (unit.kind == "image") == pictures] for units in groups]
        if all(chosen):
            units = np.array([key for group in chosen for key in group], dtype=np.int64)
            mean = reader.vectors(units, settings.dimension).mean(axis=0, dtype=np.float64)
            return scaled(mean.astype(np.float32), settings), frozenset(keys.values())
    raise InvalidRequest(
        "like: some of the documents have only texts and some only pictures", hint="name documents of one modality"
    )
