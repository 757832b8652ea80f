"""Metrics for Prometheus: requests by route and status with their times, and the state of every collection."""

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retriever.errors import PolyseekError
from service.library import Library

# From a cached lexical search (1 ms) to a batch that encodes (10 s).
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one application; a registry of their own lets several live in one process.

    Whoever does a thing counts it by the attribute that bears its name.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
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

    def watch(self, library: Library) -> None:
        """Tell of these collections as well."""
        self.registry.register(_Collections(library))

    def text(self) -> bytes:
        """Everything in Prometheus' text format. Blocks: collections are asked."""
        return generate_latest(self.registry)

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one answered request."""
        # The route's pattern, not the path: a label for each id would have no end.
        route = getattr(scope.get("route"), "path", "none")
        self.requests.labels(scope["method"], route, status).inc()
        self.seconds.labels(scope["method"], route).observe(seconds)


class Observed:
    """Counts and times every request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; one that raises is counted as 500, which the server then answers."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        start = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            self.metrics.observe(scope, status, time.perf_counter() - start)


class _Collections(Collector):
    """Gauges that are read from the collections when Prometheus asks."""

    def __init__(self, library: Library) -> None:
        self._library = library

    def collect(self) -> Iterator[Metric]:
        """One sample of each gauge for every collection; none of its sizes where it can't be opened."""
        up = GaugeMetricFamily("polyseek_collection_up", "1 if it can be opened, else 0.", labels=["collection"])
        generation = GaugeMetricFamily("polyseek_collection_generation", "Committed writes.", labels=["collection"])
        documents = GaugeMetricFamily("polyseek_collection_documents", "Documents.", labels=["collection"])
        for name in self._library.root.names():
            try:
                newest, count = self._library.using(name, lambda held: (held.generation, held.count()))
                generation.add_metric([name], newest)
                documents.add_metric([name], count)
                up.add_metric([name], 1)
            except PolyseekError:
                up.add_metric([name], 0)
        yield from (up, generation, documents)

    def describe(self) -> Iterator[Metric]:
        """Nothing: without it, registering would open every collection."""
        return iter(())
