"""From requests to queries: modes decided, texts and pictures encoded, stored documents turned into vectors."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever.analysis import query_terms
from retriever.encoder import Encoder
from retriever.errors import InvalidDocument, InvalidRequest, PolyseekError, UnknownDocument, UnsupportedModality
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

    vector: float32 (D,), None where nothing is compared. terms: the analysed words of the text. excluded: keys of
    documents.
    """

    request: SearchRequest
    mode: Mode
    vector: NDArray[np.float32] | None = None
    terms: Terms = ()
    excluded: frozenset[int] = frozenset()
    truncated: bool = False
    encode_ms: float = 0.0

    @property
    def window(self) -> int:
        """How many members each side retrieves."""
        return DENSE_WINDOW if self.mode == "dense" and self.request.offset + self.request.k > WINDOW else WINDOW


def make_queries(
    requests: Sequence[SearchRequest], settings: Settings, encoder: Encoder | None, *, reranks: bool
) -> list[Query | PolyseekError]:
    """A query for each request, or why there is none; all texts are encoded in one call.

    reranks: whether there is a cross-encoder.
    """
    queries: list[Query | PolyseekError] = []
    for request in requests:
        try:
            _check(request, settings, reranks=reranks)
            queries.append(_query(request, settings))
        except PolyseekError as error:
            queries.append(error)
    _encode_texts([query for query in queries if isinstance(query, Query)], encoder)
    for place, query in enumerate(queries):
        if isinstance(query, Query) and query.request.image is not None and query.mode != "lexical":
            try:
                _add_image(query, settings, encoder)
            except PolyseekError as error:
                queries[place] = error
    return queries


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
        raise InvalidRequest("no reranker is configured", hint="name a cross-encoder in POLYSEEK_RERANKER")
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
    query = Query(request, _mode(request, settings))
    if request.vector is not None and query.mode != "lexical":
        query.vector = scaled(np.asarray(request.vector, dtype=np.float32), settings)
    return query


def _encode_texts(queries: Sequence[Query], encoder: Encoder | None) -> None:
    pending = [query for query in queries if query.request.text is not None and query.mode != "lexical"]
    pending = [query for query in pending if query.vector is None]
    if not pending or encoder is None:
        return
    started = time.perf_counter()
    encoded = encoder.encode_queries([str(query.request.text) for query in pending])
    share = (time.perf_counter() - started) * 1e3 / len(pending)
    for query, vector, cut in zip(pending, encoded.vectors, encoded.truncated, strict=True):
        query.vector, query.truncated, query.encode_ms = vector, bool(cut), share


def _add_image(query: Query, settings: Settings, encoder: Encoder | None) -> None:
    """Encode the picture and mix it with the text: weight * image + (1 - weight) * text."""
    assert encoder is not None
    assert query.request.image is not None
    started = time.perf_counter()
    try:
        picture = open_picture(query.request.image)
    except InvalidDocument as error:
        raise InvalidRequest(str(error), hint="send a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file") from None
    vector = encoder.encode_images([picture])[0]
    if query.vector is not None:
        weight = query.request.image_weight
        vector = scaled((weight * vector + (1 - weight) * query.vector).astype(np.float32), settings)
    query.vector = vector
    query.encode_ms += (time.perf_counter() - started) * 1e3


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
