"""How long a request waits for its answer: until its deadline, and while its client is there."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request

from service.problems import ClientGone, TimedOut

T = TypeVar("T")

# Most answers are there before; the client of one that isn't is watched from then on, which takes a task of its own.
WATCHED_AFTER = 0.02


async def for_client(request: Request, deadline: float, work: Awaitable[T]) -> T:
    """What the work returns; it is cancelled at the deadline (time.monotonic()), and when the client has gone.

    Raises TimedOut, ClientGone. To be called when the request's body has been read.
    """
    watch = _Watch(request)
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await work
    except TimeoutError:
        raise TimedOut("it was not answered in time", hint="ask again, or allow a longer `timeout`") from None
    except asyncio.CancelledError:
        if watch.saw_it_go():
            raise ClientGone("the client left before its answer") from None
        raise
    finally:
        watch.end()


class _Watch:
    """Cancels the task that makes it when the request's client disconnects."""

    def __init__(self, request: Request) -> None:
        self._request = request
        task = asyncio.current_task()
        assert task is not None
        self._owner = task
        self._loop = task.get_loop()
        self._timer = self._loop.call_later(WATCHED_AFTER, self._start)
        self._watcher: asyncio.Task[None] | None = None
        self._gone = False

    def saw_it_go(self) -> bool:
        """Whether it was this that cancelled, and nobody else did."""
        return self._gone and self._owner.uncancel() == 0

    def end(self) -> None:
        """Watch no longer."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _start(self) -> None:
        self._watcher = self._loop.create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._owner.cancel()
