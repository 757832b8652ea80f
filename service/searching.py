"""A search's way through the service: checked and answered on worker threads, encoded together with others in between.

A search whose vectors are known takes one thread once. One that has to be encoded gives its thread back meanwhile, and
begins again where its collection was replaced since.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from retriever.collection import Collection
from retriever.encoder import Encoder
from retriever.errors import CollectionReplaced, PolyseekError, UnknownCollection
from retriever.queries import Query
from retriever.requests import SearchRequest, SearchResult
from service.batching import Batchers, Vector
from service.library import TRIES, Identity, Library
from service.problems import Overloaded
from service.telemetry import Metrics

Answers = Sequence[SearchResult | PolyseekError]
Write = Callable[[Answers], bytes]
# The place of a query, its vector or why there is none, and how the query takes it.
Made = tuple[int, Vector | PolyseekError, Callable[[Query, Vector], None]]


@dataclass(frozen=True, slots=True)
class _Unencoded:
    """Queries of which some lack a vector, those of the collection with this identity."""

    identity: Identity
    encoder: Encoder
    queries: list[Query | PolyseekError]


class Searching:
    """Searches of a library's collections. max_timeout: seconds that one may take, whatever it asks for."""

    def __init__(self, library: Library, batchers: Batchers, metrics: Metrics, max_timeout: float) -> None:
        self._library = library
        self._batchers = batchers
        self._seconds = metrics.stage_seconds.labels("search")
        self._max_timeout = max_timeout

    def deadline(self, search: SearchRequest) -> float:
        """When a search that begins now has to be answered (time.monotonic())."""
        return time.monotonic() + min(search.timeout, self._max_timeout)

    async def one(self, name: str, search: SearchRequest, deadline: float, write: Write) -> bytes:
        """What `write` makes of its answer, on a worker thread. Raises its error."""
        if search.min_generation is not None:
            await self._library.reach(name, search.min_generation, deadline)
        return await self._answered(name, [search], [deadline], partial(_unless_error, write))

    async def each(
        self, name: str, searches: Sequence[SearchRequest | PolyseekError], deadlines: Sequence[float], write: Write
    ) -> bytes:
        """What `write` makes of the answers, in order; an error is its own answer. deadlines: one for each.

        Raises what concerns all of them: UnknownCollection, Overloaded.
        """
        reached = await asyncio.gather(
            *(self._reached(name, search, deadline) for search, deadline in zip(searches, deadlines, strict=True))
        )
        asked = [(s, deadline) for s, deadline in zip(reached, deadlines, strict=True) if isinstance(s, SearchRequest)]

        def merged(answers: Answers) -> bytes:
            found = iter(answers)
            return write([next(found) if isinstance(search, SearchRequest) else search for search in reached])

        return await self._answered(name, [search for search, _ in asked], [deadline for _, deadline in asked], merged)

    async def _reached(
        self, name: str, search: SearchRequest | PolyseekError, deadline: float
    ) -> SearchRequest | PolyseekError:
        if isinstance(search, SearchRequest) and search.min_generation is not None:
            try:
                await self._library.reach(name, search.min_generation, deadline)
            except (UnknownCollection, Overloaded):
                raise
            except PolyseekError as error:
                return error
        return search

    async def _answered(
        self, name: str, requests: Sequence[SearchRequest], deadlines: Sequence[float], write: Write
    ) -> bytes:
        last = max(deadlines, default=time.monotonic() + self._max_timeout)
        for _ in range(TRIES):
            begun = await self._library.use(name, partial(self._begin, requests, write), last)
            if isinstance(begun, bytes):
                return begun
            queries = await self._encoded(begun, deadlines)
            answer = await self._library.use(name, partial(self._end, begun.identity, queries, write), last)
            if answer is not None:
                return answer
        raise CollectionReplaced(f"{name} was replaced again and again", hint="ask once more")

    def _begin(self, requests: Sequence[SearchRequest], write: Write, collection: Collection) -> bytes | _Unencoded:
        queries = collection.queries(requests)
        fingerprint = collection.settings.fingerprint
        for query in queries:
            if isinstance(query, Query) and (text := query.text_to_encode) is not None:
                known = self._batchers.known(str(fingerprint), text)
                if known is not None:
                    _add_text(query, known)
        if not any(isinstance(query, Query) and _lacks(query) for query in queries):
            return self._written(collection, queries, write)
        encoder = collection.encoder
        assert encoder is not None
        return _Unencoded(collection.identity, encoder, queries)

    def _end(
        self, identity: Identity, queries: Sequence[Query | PolyseekError], write: Write, collection: Collection
    ) -> bytes | None:
        """None where the collection isn't the one that the queries were made for."""
        return self._written(collection, queries, write) if collection.identity == identity else None

    def _written(self, collection: Collection, queries: Sequence[Query | PolyseekError], write: Write) -> bytes:
        answers = collection.answer(queries)
        for answer in answers:
            if isinstance(answer, SearchResult):
                self._seconds.observe(answer.timings_ms["search"] / 1e3)
        return write(answers)

    async def _encoded(self, begun: _Unencoded, deadlines: Sequence[float]) -> list[Query | PolyseekError]:
        """The queries with their vectors; what can't be encoded, or not in time, is an error in its place."""
        queries = list(begun.queries)
        texts: dict[float, list[tuple[int, str]]] = defaultdict(list)
        pictures: list[tuple[int, bytes]] = []
        for place, query in enumerate(queries):
            if isinstance(query, Query) and (text := query.text_to_encode) is not None:
                texts[deadlines[place]].append((place, text))
            if isinstance(query, Query) and (picture := query.picture_to_encode) is not None:
                pictures.append((place, picture))
        made = await asyncio.gather(
            *(self._texts(begun.encoder, some, deadline) for deadline, some in texts.items()),
            *(self._picture(begun.encoder, place, picture, deadlines[place]) for place, picture in pictures),
        )
        # Texts before pictures, whose vectors are mixed with theirs.
        for place, vector, add in (one for some in made for one in some):
            query = queries[place]
            if isinstance(vector, PolyseekError):
                queries[place] = vector
            elif isinstance(query, Query):
                add(query, vector)
        return queries

    async def _texts(self, encoder: Encoder, texts: Sequence[tuple[int, str]], deadline: float) -> list[Made]:
        made = await self._batchers.encode(encoder, [text for _, text in texts], "query", deadline)
        return [(place, vector, _add_text) for (place, _), vector in zip(texts, made, strict=True)]

    async def _picture(self, encoder: Encoder, place: int, picture: bytes, deadline: float) -> list[Made]:
        try:
            return [(place, await self._batchers.encode_picture(encoder, picture, deadline), _add_picture)]
        except Overloaded:
            raise
        except PolyseekError as error:
            return [(place, error, _add_picture)]


def _lacks(query: Query) -> bool:
    return query.text_to_encode is not None or query.picture_to_encode is not None


def _add_text(query: Query, made: Vector) -> None:
    query.add_text(made.vector, truncated=made.truncated, encode_ms=made.encode_ms, queue_ms=made.queue_ms)


def _add_picture(query: Query, made: Vector) -> None:
    query.add_picture(made.vector, encode_ms=made.encode_ms, queue_ms=made.queue_ms)


def _unless_error(write: Write, answers: Answers) -> bytes:
    [answer] = answers
    if isinstance(answer, PolyseekError):
        raise answer
    return write(answers)
