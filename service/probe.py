"""One look at one collection as a client would take it: opened, a text encoded together with others', searched.

The calls run on threads of their own, not on those of the requests: a busy service is still ready.
"""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from PIL import Image

from retriever.collection import Collection
from retriever.encoder import Encoder
from retriever.errors import CollectionReplaced, PolyseekError
from retriever.requests import Mode, SearchRequest
from service.batching import Batchers
from service.library import TRIES, Identity, Library

T = TypeVar("T")

TEXT = "ready"
PIXELS = 16
# One that takes long holds up no other, as long as these are more.
THREADS = 4
# What an encoder may take for one word, its queue before it included.
ENCODE_SECONDS = 30.0


@dataclass(slots=True)
class Steps:
    """What a look has done so far, in milliseconds a step."""

    done: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def mark(self, step: str) -> None:
        """A step has ended."""
        now = time.perf_counter()
        self.done[step] = round((now - self._last) * 1e3, 1)
        self._last = now


class Probe:
    """Looks at the collections of a library, texts going the way of all texts that are encoded."""

    def __init__(self, library: Library, batchers: Batchers) -> None:
        self._library = library
        self._batchers = batchers
        self._limiter = CapacityLimiter(THREADS)

    async def thread(self, work: Callable[[], T]) -> T:
        """What `work` returns, from a thread. When cancelled it isn't waited for."""
        return await to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

    async def collection(self, name: str, steps: Steps, *, fully: bool) -> list[str]:
        """What is amiss with a collection that answers. Raises what keeps it from answering.

        fully: by each mode, and by a picture where its encoder takes pictures.
        """
        for _ in range(TRIES):
            identity, encoder, dimension = await self._used(name, _opened)
            steps.mark("open")
            vector = None if encoder is None else await self._encoded(encoder, fully=fully)
            steps.mark("encode")
            if vector is None and dimension is not None:
                vector = [1.0] * dimension
            troubles = await self._used(name, partial(_searched, identity, _requests(vector, fully=fully)))
            steps.mark("search")
            if troubles is not None:
                return troubles
        raise CollectionReplaced(f"{name} was replaced again and again", hint="ask once more")

    async def reranker(self) -> None:
        """Have the cross-encoder read one pair. Raises ModelUnavailable."""
        await self.thread(lambda: self._library.root.reranker().score(TEXT, [TEXT]))

    async def _used(self, name: str, work: Callable[[Collection], T]) -> T:
        return await self.thread(lambda: self._library.using(name, work))

    async def _encoded(self, encoder: Encoder, *, fully: bool) -> list[float] | None:
        """As a document, whose vector no cache holds; None where the encoder takes pictures alone."""
        deadline = time.monotonic() + ENCODE_SECONDS
        if fully and "image" in encoder.modalities:
            await self._batchers.encode_picture(encoder, _picture(), deadline)
        if "text" not in encoder.modalities:
            return None
        [made] = await self._batchers.encode(encoder, [TEXT], "document", deadline)
        if isinstance(made, PolyseekError):
            raise made
        vector: list[float] = made.vector.tolist()
        return vector


def _opened(collection: Collection) -> tuple[Identity, Encoder | None, int | None]:
    return collection.identity, collection.encoder, collection.settings.dimension


def _searched(identity: Identity, requests: Sequence[SearchRequest], collection: Collection) -> list[str] | None:
    """What is amiss; None where the collection isn't the one that was opened. Raises the first search's error."""
    if collection.identity != identity:
        return None
    for request in requests:
        collection.search(request)
    return collection.troubles


def _requests(vector: list[float] | None, *, fully: bool) -> list[SearchRequest]:
    modes: tuple[Mode | None, ...] = (None, "lexical") if vector is None else ("hybrid", "dense", "lexical")
    return [
        SearchRequest(text=TEXT, vector=None if mode == "lexical" else vector, mode=mode, k=1)
        for mode in (modes if fully else modes[:1])
    ]


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (PIXELS, PIXELS)).save(buffer, "PNG")
    return buffer.getvalue()
