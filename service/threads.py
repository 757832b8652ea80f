"""Worker threads for calls that block, and how many calls may wait for one."""

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import Semaphore
from typing import Any, TypeVar

from prometheus_client import Counter

from service.problems import Overloaded

T = TypeVar("T")


class Threads:
    """So many threads, started when they are needed; `queue` calls may wait for one of them.

    dropped: counts, by reason, the calls that were refused or given up before they began.
    """

    def __init__(self, count: int, name: str, *, queue: int, dropped: Counter) -> None:
        self._pool = ThreadPoolExecutor(count, f"polyseek-{name}")
        self._room = Semaphore(count + queue)
        self._dropped = dropped

    async def run(self, work: Callable[[], T], deadline: float = math.inf) -> T:
        """What `work` returns, from a thread that sees the caller's context variables.

        Where the caller is cancelled, work that hasn't begun is dropped, and work that has goes on to its end, unheard.
        deadline (time.monotonic()): only tells why the caller was cancelled. Raises Overloaded, at once.
        """
        if not self._room.acquire(blocking=False):
            self._dropped.labels("full").inc()
            raise Overloaded("too many requests are being worked on", hint="ask again in a moment")
        future = self._pool.submit(copy_context().run, work)
        future.add_done_callback(self._leave)
        try:
            return await asyncio.wrap_future(future)
        finally:
            if future.cancelled():
                self._dropped.labels("timed_out" if time.monotonic() >= deadline else "client_gone").inc()

    def close(self) -> None:
        """Begin nothing more; what has begun goes on."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _leave(self, _future: Future[Any]) -> None:
        self._room.release()
