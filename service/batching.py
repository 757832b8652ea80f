"""Queries of concurrent requests are encoded together.

There is no timer: what arrives while one batch is encoded is the next batch, filled to a budget of tokens. Each encoder
has a queue and a thread of its own, which outlives whatever a request brings.
"""

import asyncio
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from threading import Condition, Thread
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from retriever.encoder import Encoder
from retriever.errors import PolyseekError
from retriever.queries import opened
from retriever.recent import Recent
from retriever.towers import Prepared, Role
from service import logs
from service.problems import Overloaded, TimedOut
from service.telemetry import Metrics

T = TypeVar("T")
Kind = Literal["query", "document", "image"]

# Code points that are tokenised for each token of a batch's budget: English has 4 to 5 a token, so that a batch is
# mostly full; what is tokenised beyond it is kept for the next.
CHARACTERS = 4
# Pictures that are decoded before they are encoded: the largest that is taken has 192 MB of pixels.
PICTURES = 8

log = logging.getLogger("polyseek.service")


@dataclass(frozen=True, slots=True)
class Vector:
    """vector: float32 (D,), not to be written to. truncated: whether the text was cut; tokens: those after the cut,
    0 for a picture. encode_ms: what its batch took, queue_ms: how long it waited for that; both 0 where it was known.
    """

    vector: NDArray[np.float32]
    truncated: bool
    tokens: int
    encode_ms: float
    queue_ms: float


class Batchers:
    """The queues of all encoders. Its coroutines belong to one event loop; `known` may be called by any thread.

    queue: texts and pictures that may wait in all; a call of more than that is taken where nothing else waits. cache:
    vectors of queries that are kept.
    """

    def __init__(self, metrics: Metrics, *, queue: int, cache: int) -> None:
        self._metrics = metrics
        self._queue = queue
        self._cache: Recent[bytes, Vector] = Recent(cache, lambda _key, _vector: 1)
        self._batchers: dict[str, _Batcher] = {}
        self._decoding = asyncio.Semaphore(PICTURES)
        self._undecoded = 0
        metrics.queue_length.set_function(self._waiting)

    def known(self, fingerprint: str, text: str) -> Vector | None:
        """The vector of a query that was encoded lately, by the fingerprint of its encoder."""
        key = _key(fingerprint, text)
        found = self._cache.get_all([key], lambda _: {}).get(key)
        if found is not None:
            self._metrics.query_cache.labels("hit").inc()
        return found

    async def encode(
        self, encoder: Encoder, texts: Sequence[str], role: Role, deadline: float
    ) -> list[Vector | PolyseekError]:
        """The vector of each text, or its own error; TimedOut where it isn't there at the deadline (time.monotonic()).

        Raises Overloaded, at once, where too many wait.
        """
        found = [self.known(encoder.fingerprint, text) if role == "query" else None for text in texts]
        missing = [place for place, vector in enumerate(found) if vector is None]
        answers: list[Vector | PolyseekError | None] = list(found)
        if missing:
            made = await self._encoded(encoder, [_Item(role, texts[place]) for place in missing], deadline)
            for place, vector in zip(missing, made, strict=True):
                answers[place] = vector
                if role == "query":
                    self._metrics.query_cache.labels("miss").inc()
                    self._keep(_key(encoder.fingerprint, texts[place]), vector)
        return [answer for answer in answers if answer is not None]

    async def encode_picture(self, encoder: Encoder, picture: bytes, deadline: float) -> Vector:
        """The vector of an encoded picture. Raises InvalidRequest, UnsupportedModality, TimedOut, Overloaded."""
        self._admit(1)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                self._undecoded += 1
                try:
                    await self._decoding.acquire()
                finally:
                    self._undecoded -= 1
                try:
                    item = _Item("image", "", Prepared(await asyncio.to_thread(opened, picture), 0, truncated=False))
                    [made] = await self._encoded(encoder, [item], deadline)
                finally:
                    self._decoding.release()
        except TimeoutError:
            raise _late() from None
        if isinstance(made, PolyseekError):
            raise made
        return made

    def close(self) -> None:
        """End the threads, each after the batch that it is at."""
        for batcher in self._batchers.values():
            batcher.close()

    async def _encoded(
        self, encoder: Encoder, items: Sequence["_Item"], deadline: float
    ) -> list[Vector | PolyseekError]:
        self._admit(len(items))
        batcher = self._batchers.get(encoder.fingerprint)
        if batcher is None:
            batcher = self._batchers[encoder.fingerprint] = _Batcher(encoder, self._metrics)
        call = _Call(len(items), deadline)
        batcher.put([_Entry(item, call, place) for place, item in enumerate(items)])
        return await call.answers()

    def _admit(self, count: int) -> None:
        waiting = self._waiting()
        if waiting and waiting + count > self._queue:
            self._metrics.dropped.labels("full").inc(count)
            raise Overloaded(
                f"{waiting} texts and pictures wait to be encoded, {count} more are too many",
                hint="ask again in a moment, or send fewer at a time",
            )

    def _waiting(self) -> int:
        return self._undecoded + sum(len(batcher) for batcher in self._batchers.values())

    def _keep(self, key: bytes, made: Vector | PolyseekError) -> None:
        if isinstance(made, Vector):
            # A copy: a row would keep its whole batch in memory.
            vector = made.vector.copy()
            vector.flags.writeable = False
            kept = replace(made, vector=vector, encode_ms=0.0, queue_ms=0.0)
            self._cache.get_all([key], lambda _: {key: kept})


@dataclass(slots=True)
class _Item:
    """What is to be encoded; prepared: once it is tokenised, or decoded."""

    kind: Kind
    text: str
    prepared: Prepared | None = None


class _Call:
    """What one caller waits for. To be made on its event loop."""

    def __init__(self, count: int, deadline: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.deadline = deadline
        self.request = logs.request_id.get()
        self.abandoned = False
        self._answers: list[Vector | PolyseekError | None] = [None] * count
        self._left = count
        self._done: asyncio.Future[None] = self.loop.create_future()

    async def answers(self) -> list[Vector | PolyseekError]:
        """One for each item, at the deadline at the latest."""
        timer = self.loop.call_later(max(0.0, self.deadline - time.monotonic()), self._end)
        try:
            await self._done
        except asyncio.CancelledError:
            self.abandoned = True
            raise
        finally:
            timer.cancel()
        return [_late() if answer is None else answer for answer in self._answers]

    def take(self, place: int, answer: Vector | PolyseekError) -> None:
        """An item's answer; to be called on the event loop."""
        self._left -= self._answers[place] is None
        self._answers[place] = answer
        if not self._left:
            self._end()

    def _end(self) -> None:
        if not self._done.done():
            self._done.set_result(None)


@dataclass(slots=True)
class _Entry:
    """An item in a queue, and where its answer goes."""

    item: _Item
    call: _Call
    place: int
    since: float = field(default_factory=time.monotonic)

    def reason_to_drop(self) -> str | None:
        """Why nobody waits for it any more."""
        if time.monotonic() >= self.call.deadline:
            return "timed_out"
        return "client_gone" if self.call.abandoned else None


class _Batcher:
    """One encoder's queue, and the thread that works on it."""

    def __init__(self, encoder: Encoder, metrics: Metrics) -> None:
        self._encoder = encoder
        self._metrics = metrics
        self._queue: deque[_Entry] = deque()
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._run, name=f"batches of {encoder.name}", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, entries: Iterable[_Entry]) -> None:
        """Queue what is to be encoded."""
        with self._changed:
            self._queue.extend(entries)
            self._changed.notify()

    def close(self) -> None:
        """End the thread after the batch that it is at."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while entries := self._next():
            try:
                self._serve([entry for entry in entries if not self._dropped(entry)])
            except BaseException as error:  # whatever it is, those who come next must be served
                _deliver(entries, [error] * len(entries))

    def _next(self) -> list[_Entry]:
        """What waits and is of the first one's kind, as much as may be tokenised for a batch; empty once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return []
            room = CHARACTERS * self._encoder.batch_tokens
            taken: list[_Entry] = []
            kept: deque[_Entry] = deque()
            for entry in self._queue:
                if entry.item.kind == self._queue[0].item.kind and (room > 0 or not taken):
                    taken.append(entry)
                    room -= len(entry.item.text)
                else:
                    kept.append(entry)
            self._queue = kept
            return taken

    def _dropped(self, entry: _Entry) -> bool:
        reason = entry.reason_to_drop()
        if reason is not None:
            self._metrics.dropped.labels(reason).inc()
        return reason is not None

    def _serve(self, entries: Sequence[_Entry]) -> None:
        ready = self._prepared(entries)
        batch = ready[: self._fitting([prepared for _, prepared in ready])]
        with self._changed:
            self._queue.extendleft(entry for entry, _ in reversed(ready[len(batch) :]))
        if batch:
            self._encode(batch)

    def _prepared(self, entries: Sequence[_Entry]) -> list[tuple[_Entry, Prepared]]:
        """The entries with their tokens; those that can't be tokenised have their answer."""
        untouched = [entry for entry in entries if entry.item.prepared is None]
        made = _each(untouched, self._tokenise) if untouched else []
        failed = []
        for entry, prepared in zip(untouched, made, strict=True):
            if isinstance(prepared, BaseException):
                failed.append((entry, prepared))
            else:
                entry.item.prepared = prepared
        _deliver([entry for entry, _ in failed], [error for _, error in failed])
        return [(entry, entry.item.prepared) for entry in entries if entry.item.prepared is not None]

    def _tokenise(self, entries: Sequence[_Entry]) -> list[Prepared]:
        kind = entries[0].item.kind
        assert kind != "image"
        return self._encoder.prepare([entry.item.text for entry in entries], kind)

    def _fitting(self, prepared: Sequence[Prepared]) -> int:
        """How many of them, from the first on, the budget holds; one at least, however long it is."""
        if not prepared:
            return 0
        tokens = np.cumsum([text.length for text in prepared])
        return max(1, int(np.searchsorted(tokens, self._encoder.batch_tokens, side="right")))

    def _encode(self, batch: Sequence[tuple[_Entry, Prepared]]) -> None:
        started = time.monotonic()
        kind = batch[0][0].item.kind
        vectors = _each([prepared for _, prepared in batch], lambda part: self._forward(kind, part))
        seconds = time.monotonic() - started
        answers: list[Vector | BaseException] = [
            Vector(vector, prepared.truncated, prepared.length, seconds * 1e3, (started - entry.since) * 1e3)
            if isinstance(vector, np.ndarray)
            else vector
            for (entry, prepared), vector in zip(batch, vectors, strict=True)
        ]
        _deliver([entry for entry, _ in batch], answers)
        self._observe(batch, started, seconds)

    def _forward(self, kind: Kind, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        if kind == "image":
            return self._encoder.encode_images([picture.payload for picture in prepared])
        return self._encoder.encode_prepared(prepared, kind)

    def _observe(self, batch: Sequence[tuple[_Entry, Prepared]], started: float, seconds: float) -> None:
        self._metrics.batch_texts.observe(len(batch))
        self._metrics.stage_seconds.labels("encode").observe(seconds)
        waited = self._metrics.stage_seconds.labels("queue")
        for entry, _ in batch:
            waited.observe(started - entry.since)
        if batch[0][0].item.kind != "image":
            self._metrics.batch_tokens.observe(sum(prepared.length for _, prepared in batch))


def _key(fingerprint: str, text: str) -> bytes:
    """A digest: a key that held its text would make the cache as large as clients like."""
    # A lone surrogate is refused when it is tokenised.
    return hashlib.blake2b(text.encode(errors="surrogatepass"), key=fingerprint.encode()[:64], digest_size=16).digest()


def _each(items: Sequence[Any], work: Callable[[Sequence[Any]], Iterable[T]]) -> list[T | BaseException]:
    """What the work makes of each item. Where it fails, of each half by itself, until what fails stands alone."""
    try:
        return list(work(items))
    except BaseException as error:  # also those of extensions that panic
        if len(items) == 1:
            return [error]
    middle = len(items) // 2
    return [*_each(items[:middle], work), *_each(items[middle:], work)]


def _deliver(entries: Sequence[_Entry], answers: Sequence[Vector | BaseException]) -> None:
    """Hand answers to the event loops that wait for them."""
    unforeseen = [answer for answer in answers if not isinstance(answer, (Vector, PolyseekError))]
    if unforeseen:
        log.error(
            "%d of %d texts or pictures can't be encoded", len(unforeseen), len(entries), exc_info=unforeseen[0],
            extra={"request_ids": sorted({entry.call.request for entry in entries})},
        )  # fmt: skip
    given = list(zip(entries, map(_foreseen, answers), strict=True))
    for loop in {entry.call.loop for entry in entries}:
        of_loop = [(entry.call, entry.place, answer) for entry, answer in given if entry.call.loop is loop]
        if not loop.is_closed():
            loop.call_soon_threadsafe(_hand_over, of_loop)


def _hand_over(answers: Iterable[tuple[_Call, int, Vector | PolyseekError]]) -> None:
    for call, place, answer in answers:
        call.take(place, answer)


def _foreseen(answer: Vector | BaseException) -> Vector | PolyseekError:
    if isinstance(answer, (Vector, PolyseekError)):
        return answer
    return PolyseekError("something unforeseen went wrong", hint="the service's log says what")


def _late() -> TimedOut:
    return TimedOut("it was not encoded in time", hint="ask again, or allow a longer timeout")
