"""Whether the service can answer: it is ready when it has really encoded and searched, not when it has started."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from retriever.errors import PolyseekError, UnknownCollection
from retriever.root import ALIASES, Root
from service.batching import Batchers
from service.library import Library
from service.probe import Probe, Steps
from service.problems import NotReady, Overloaded, TimedOut

# Health checks come every few seconds from several sides: a search of every collection each time would be a load.
FRESH_SECONDS = 5.0
# How long a health check waits for looks that are under way: those who ask give up after a second or so.
WAIT_SECONDS = 0.8
# How long a collection that has answered may be too busy to, or not end a look, before it counts as failing.
PATIENCE_SECONDS = 30.0
# The start waits so long for all collections; what isn't ready by then holds up no other.
START_SECONDS = 120.0
RERANKER = "the reranker"

log = logging.getLogger("polyseek.service")

Conditions = Mapping[str, Callable[[], Sequence[str]]]


@dataclass(slots=True)
class _Seen:
    """What is known of one collection. error: of its latest look. began: of a look that is under way."""

    task: "asyncio.Task[None] | None" = None
    began: float = 0.0
    ended: float | None = None
    answered: float | None = None
    error: PolyseekError | None = None
    troubles: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Report:
    """answering: collections that do. failing: those that don't, and aliases of none. degraded: what serves, but not as
    it should, and why.
    """

    answering: list[str]
    failing: dict[str, PolyseekError]
    degraded: dict[str, str]


class Readiness:
    """Looks at every collection when it is asked, at most every few seconds. Belongs to one event loop.

    conditions: by the name of what else may be amiss, what gives a sentence for each thing that is.
    """

    def __init__(self, library: Library, batchers: Batchers, conditions: Conditions) -> None:
        self._root: Root = library.root
        self._probe = Probe(library, batchers)
        self._conditions = conditions
        self._seen: dict[str, _Seen] = {}
        self._aliases: dict[str, PolyseekError] = {}
        self._reranker: str | None = None
        self._reranking: asyncio.Task[None] | None = None
        self._looked = 0.0
        self._started = False
        self._draining = False

    async def warm(self) -> None:
        """Open every collection, load what it needs, and search it by each mode. May be cancelled."""
        begun = time.monotonic()
        if self._root.reranker_name is not None:
            self._reranking = asyncio.create_task(self._rerank())
        await self._look(fully=True)
        _, late = await self._under_way(START_SECONDS)
        self._started = True
        if late:
            log.warning("the start no longer waits for %s", self._waiting())
        log.info("ready after %.1f s: %d collections", time.monotonic() - begun, len(self._seen))

    def drain(self) -> None:
        """From now on the service isn't ready, though it answers. Safe to call from a signal's handler."""
        self._draining = True

    async def check(self) -> Report:
        """What there is to say, at most a few seconds old.

        Raises NotReady while the start waits for collections, where there are some and none answers, and in the end.
        """
        if self._draining:
            raise NotReady("the service is being stopped", hint="ask another one")
        if not self._started:
            raise NotReady(f"the collections are being opened: {self._waiting()}", hint="ask again in a few seconds")
        await self._look()
        await self._under_way(WAIT_SECONDS)
        report = Report(self._answering(), self.failing(), self.degraded())
        if self._seen and not report.answering:
            for name, error in report.failing.items():
                raise NotReady(f"no collection answers; {name}: {error}", hint=error.hint)
            raise NotReady(f"no collection has answered yet: {self._waiting()}", hint="look into the service's log")
        return report

    def failing(self) -> dict[str, PolyseekError]:
        """Those that did not answer, and aliases that lead to none."""
        found = {name: error for name, seen in self._seen.items() if (error := _failure(seen)) is not None}
        return {**found, **self._aliases}

    def degraded(self) -> dict[str, str]:
        """What serves, but not as it should, and why."""
        found = {name: "; ".join(seen.troubles) for name, seen in self._seen.items() if seen.troubles}
        found |= dict.fromkeys(self._unanswered(), "its first search is not answered yet")
        if self._reranker is not None:
            found[RERANKER] = self._reranker
        return found | {name: "; ".join(told) for name, tell in self._conditions.items() if (told := tell())}

    def close(self) -> None:
        """Give up the looks that are under way."""
        for task in self._tasks():
            task.cancel()

    def _answering(self) -> list[str]:
        return [name for name, seen in self._seen.items() if seen.answered is not None and _failure(seen) is None]

    def _unanswered(self) -> list[str]:
        return [name for name, seen in self._seen.items() if seen.ended is None]

    def _waiting(self) -> str:
        return ", ".join(self._unanswered()) or "none is known yet"

    async def _rerank(self) -> None:
        begun = time.monotonic()
        try:
            await self._probe.reranker()
        except Exception as error:
            # Whatever it is: searches without `rerank` are answered. Said once, not at every try.
            if self._reranker is None:
                log.warning("no search is reranked: %s", error)
            self._reranker = str(error) if isinstance(error, PolyseekError) else "it fails, the log says how"
        else:
            self._reranker = None
            log.info("the reranker has read a pair", extra={"seconds": round(time.monotonic() - begun, 3)})

    async def _look(self, *, fully: bool = False) -> None:
        """Begin a look at each collection that was not looked at lately, at one that is new as well as it can be."""
        now = time.monotonic()
        if now - self._looked > FRESH_SECONDS or fully:
            self._looked = now
            names, self._aliases = await self._probe.thread(self._names)
            self._seen = {name: self._seen.get(name) or _Seen() for name in names}
            if self._reranker is not None and self._reranking is not None and self._reranking.done():
                self._reranking = asyncio.create_task(self._rerank())
        for name, seen in self._seen.items():
            if seen.task is None and (seen.ended is None or now - seen.ended > FRESH_SECONDS):
                seen.began = now
                seen.task = asyncio.create_task(self._look_at(name, seen))

    async def _under_way(self, seconds: float) -> tuple[set["asyncio.Task[None]"], set["asyncio.Task[None]"]]:
        tasks = self._tasks()
        return await asyncio.wait(tasks, timeout=seconds) if tasks else (set(), set())

    def _tasks(self) -> list["asyncio.Task[None]"]:
        tasks = (self._reranking, *(seen.task for seen in self._seen.values()))
        return [task for task in tasks if task is not None and not task.done()]

    def _names(self) -> tuple[list[str], dict[str, PolyseekError]]:
        """The collections, and the aliases that can't be followed."""
        names = self._root.names()
        try:
            aliases = self._root.aliases()
        except PolyseekError as error:
            return names, {ALIASES: error}
        lost = {alias: target for alias, target in aliases.items() if target not in names}
        return names, {
            alias: UnknownCollection(f"it stands for {target}, which isn't there", hint="polyseek index alias moves it")
            for alias, target in lost.items()
        }

    async def _look_at(self, name: str, seen: _Seen) -> None:
        first, steps, before = seen.ended is None, Steps(), seen.error
        try:
            seen.troubles = await self._probe.collection(name, steps, fully=first)
            seen.error, seen.answered = None, time.monotonic()
        except (Overloaded, TimedOut) as error:
            # A service that is busy is ready; one that is so for ever isn't.
            if seen.answered is None or time.monotonic() - seen.answered > PATIENCE_SECONDS:
                seen.error = error
        except UnknownCollection:
            # Dropped since it was listed.
            self._seen.pop(name, None)
            return
        except PolyseekError as error:
            seen.error = error
        except Exception:
            # Whatever it is, this collection doesn't answer, and the others must still be looked at.
            log.exception("collection %s does not answer", name)
            seen.error = PolyseekError("something unforeseen went wrong", hint="the service's log says what")
        finally:
            seen.ended, seen.task = time.monotonic(), None
        if seen.error is not None and before is None:  # said once, not at every look
            log.warning("collection %s does not answer: %s", name, seen.error)
        elif seen.error is None and (first or before is not None):
            log.info("collection %s answers", name, extra={"milliseconds": steps.done})


def _failure(seen: _Seen) -> PolyseekError | None:
    if seen.error is None and seen.task is not None and seen.ended is not None:
        seconds = time.monotonic() - seen.began
        if seconds > PATIENCE_SECONDS:
            return TimedOut(f"a search has not been answered for {seconds:.0f} s", hint="look into the service's log")
    return seen.error
