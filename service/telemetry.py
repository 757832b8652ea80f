"""Metrics for Prometheus: requests, the stages of their answers, the state of every collection, the process.

Around every request: its id, its time, its line in the log.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from uuid import uuid4

from anyio import CapacityLimiter, to_thread
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retriever.errors import PolyseekError
from retriever.results import Vitals
from service import logs
from service.library import Library
from service.middleware import with_headers
from service.problems import ClientGone, problem_response

# From a cached lexical search (1 ms) to a batch that encodes (10 s).
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Whatever else a client sends as its method would be a label of its own, without end.
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
# What a proxy or a client may have called a request; anything else could forge lines or fill the log.
REQUEST_ID = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)
# Asked every few seconds by machines; they are logged as debug.
PROBES = frozenset({"/livez", "/readyz", "/metrics"})

log = logging.getLogger("polyseek.service")


class Metrics:
    """The metrics of one application; a registry of their own lets several live in one process.

    Whoever does a thing counts it by the attribute that bears its name.
    """

    def __init__(self) -> None:
        # When a counter was made is said by process_start_time_seconds; a line for each would double the answer.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        # A thread of its own: a busy service is still watched, and scrapes that pile up take one.
        self._gathering = CapacityLimiter(1)
        self._watched: _Collections | None = None
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "polyseek_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "polyseek_request_seconds",
            "Time from a request's arrival to the end of its answer.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "polyseek_stage_seconds",
            "Time of one part of an answer: queue, encode, search, write.",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_texts = Histogram(
            "polyseek_batch_texts",
            "Texts or pictures encoded together.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=self.registry,
        )
        self.batch_tokens = Histogram(
            "polyseek_batch_tokens",
            "Tokens encoded together.",
            buckets=(16, 64, 256, 512, 1024, 2048, 4096, 8192),
            registry=self.registry,
        )
        self.queue_length = Gauge(
            "polyseek_queue_length", "Texts and pictures that wait to be encoded.", registry=self.registry
        )
        self.queue_limit = Gauge(
            "polyseek_queue_limit", "Texts and pictures that may wait: the setting queue.", registry=self.registry
        )
        self.dropped = Counter(
            "polyseek_dropped",
            "Work given up before it was done: full, timed_out, client_gone.",
            ("reason",),
            registry=self.registry,
        )
        self.query_cache = Counter(
            "polyseek_query_cache",
            "Query vectors looked up, by outcome: hit, miss.",
            ("outcome",),
            registry=self.registry,
        )
        # A rate needs the zero before the first count.
        for stage in ("queue", "encode", "search", "write"):
            self.stage_seconds.labels(stage)
        for reason in ("full", "timed_out", "client_gone"):
            self.dropped.labels(reason)
        for outcome in ("hit", "miss"):
            self.query_cache.labels(outcome)

    def watch(
        self,
        library: Library,
        failing: Callable[[], Mapping[str, object]],
        degraded: Callable[[], Mapping[str, object]],
    ) -> None:
        """Tell of these collections as well.

        failing, degraded: by name, what doesn't answer, and what doesn't serve as it should; called on the event loop.
        """
        self._watched = _Collections(library, failing, degraded)
        self.registry.register(self._watched)

    async def text(self) -> bytes:
        """Everything in Prometheus' text format. Nothing is opened or loaded for it."""
        if self._watched is not None:
            self._watched.look()
        return await to_thread.run_sync(generate_latest, self.registry, limiter=self._gathering)

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one answered request."""
        # The route's pattern, not the path: a label for each id would have no end.
        route = _route(scope)
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.requests.labels(method, route, status).inc()
        self.seconds.labels(method, route).observe(seconds)


class Observed:
    """Gives every request an id, counts and times it, logs it, and answers what nobody foresaw.

    The id is the client's `X-Request-ID` where that is a plain word, and goes back as the same header.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        identifier = _request_id(scope)
        logs.begin(identifier)
        status: int | None = None

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", identifier.encode())]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            log.exception("something unforeseen went wrong")
            if status is not None:  # half an answer: the server breaks the connection off
                raise
            internal = PolyseekError("something unforeseen went wrong", hint="the service's log says what")
            # The gate, which adds them to every other answer, has been left by now.
            await problem_response(internal, Request(scope).url.path)(scope, receive, with_headers(watched))
        finally:
            self._done(scope, status or ClientGone.status, time.perf_counter() - start)

    def _done(self, scope: Scope, status: int, seconds: float) -> None:
        self.metrics.observe(scope, status, seconds)
        route = _route(scope)
        members = {
            "method": scope["method"],
            "route": route,
            # Without the query, which may hold a filter or a search.
            "path": scope["path"],
            "status": status,
            "ms": round(seconds * 1000, 2),
        }
        if name := scope.get("path_params", {}).get("name"):
            members["collection"] = name
        logs.answered(logging.DEBUG if route in PROBES and status < HTTPStatus.BAD_REQUEST else logging.INFO, members)


def _route(scope: Scope) -> str:
    """The pattern of the route that a request found, `none` where there is none."""
    route: str = getattr(scope.get("route"), "path", "none")
    return route


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid4().hex


class _Collections(Collector):
    """Gauges that are read from the collections when Prometheus asks.

    Only those that are open already are read, in a read transaction each: a scrape neither opens files nor loads an
    encoder. The service opens all at its start, and those made since at their first use or probe.
    """

    def __init__(
        self,
        library: Library,
        failing: Callable[[], Mapping[str, object]],
        degraded: Callable[[], Mapping[str, object]],
    ) -> None:
        self._library = library
        self._ask_failing = failing
        self._ask_degraded = degraded
        self._failing: Mapping[str, object] = {}
        self._degraded: Mapping[str, object] = {}

    def look(self) -> None:
        """Note what fails and what is degraded, for the thread that collects next. To be called on the event loop."""
        self._failing, self._degraded = self._ask_failing(), self._ask_degraded()

    def collect(self) -> Iterator[Metric]:
        """One sample of each gauge for every collection; of one that doesn't answer only that it doesn't."""
        names = self._library.root.names()
        found = {name: vitals for name in names if (vitals := self._vitals(name)) is not None}
        failing, degraded = self._failing, self._degraded
        troubles = GaugeMetricFamily(
            "polyseek_troubles", "What /readyz names as failing or degraded.", len(failing) + len(degraded)
        )
        up = _gauge("up", "1 if it is open, can be read and answered its latest probe, else 0.")
        weak = _gauge("degraded", "1 if it serves, but not as it should (/readyz says why), else 0.")
        for name in names:
            up.add_metric([name], name in found)
            weak.add_metric([name], name in degraded)
        yield from (troubles, up, weak, *_sizes(found))

    def describe(self) -> Iterator[Metric]:
        """Nothing: without it, registering would read every collection."""
        return iter(())

    def _vitals(self, name: str) -> Vitals | None:
        if name in self._failing:
            return None
        try:
            with self._library.lend_open(name) as collection:
                return None if collection is None else collection.vitals()
        except PolyseekError:
            return None


def _sizes(found: Mapping[str, Vitals]) -> Iterator[Metric]:
    gauges = {
        "generation": _gauge("generation", "Committed writes."),
        "documents": _gauge("documents", "Documents."),
        "units": _gauge("units", "Passages, captions and pictures that are searched."),
        "tail": _gauge("tail_units", "Units that the dense index lacks, which a search scans."),
        "bytes": _gauge("bytes", "Size on disk."),
        "recall": _gauge("recall", "Measured recall at 10 of the dense index; 1 where all vectors are scanned."),
    }
    index = InfoMetricFamily("polyseek_collection_index", "Kind of the dense index.", labels=["collection"])
    for name, vitals in found.items():
        for member, gauge in gauges.items():
            gauge.add_metric([name], getattr(vitals, member))
        index.add_metric([name], {"kind": vitals.kind})
    yield from (*gauges.values(), index)


def _gauge(name: str, sentence: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"polyseek_collection_{name}", sentence, labels=["collection"])
