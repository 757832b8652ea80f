"""Whether the service can answer: it is ready when it has really encoded and searched, not when it has started."""

import logging
import time

from anyio import Lock, to_thread

from retriever.errors import PolyseekError
from service.library import Library
from service.problems import NotReady

# Health checks come every few seconds from several sides: a search of every collection each time would be a load.
FRESH_SECONDS = 5.0
PROBE = "ready"

log = logging.getLogger("polyseek.service")


class Readiness:
    """The outcome of the latest probe of every collection: None where it answered, else its error."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._outcomes: dict[str, PolyseekError | None] | None = None
        self._probed_at = 0.0
        self._probing = Lock()

    async def warm(self) -> None:
        """Open every collection, load its encoder and search it once. May be cancelled."""
        async with self._probing:
            await self._probe()

    async def check(self) -> dict[str, PolyseekError | None]:
        """The outcome for each collection, at most a few seconds old.

        Raises NotReady while the first probe runs, and when there are collections of which none answers.
        """
        if self._outcomes is None:
            raise NotReady("the collections are being opened", hint="ask again in a few seconds")
        async with self._probing:
            if time.monotonic() - self._probed_at > FRESH_SECONDS:
                await self._probe()
        if self._outcomes and all(self._outcomes.values()):
            name, error = next(iter(self._outcomes.items()))
            raise NotReady(f"no collection answers; {name}: {error}", hint=error.hint if error else "")
        return self._outcomes

    async def _probe(self) -> None:
        # Its own thread, not one of the library's: a busy service is still ready.
        self._outcomes = await to_thread.run_sync(self._probe_all, abandon_on_cancel=True)
        self._probed_at = time.monotonic()

    def _probe_all(self) -> dict[str, PolyseekError | None]:
        outcomes = {name: self._probe_one(name) for name in self._library.root.names()}
        for name, error in outcomes.items():
            if error is not None and not (self._outcomes or {}).get(name):  # said once, not at every probe
                log.warning("collection %s does not answer: %s", name, error)
        return outcomes

    def _probe_one(self, name: str) -> PolyseekError | None:
        try:
            self._library.using(name, lambda collection: collection.search(PROBE, k=1))
        except PolyseekError as error:
            return error
        except Exception:
            # Whatever it is, this collection doesn't answer, and the others must still be probed.
            log.exception("collection %s does not answer", name)
            return PolyseekError("something unforeseen went wrong", hint="the service's log says what")
        return None
