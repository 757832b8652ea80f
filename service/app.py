"""The application: settings in, an ASGI app out. Nothing happens at import, and several may live in one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import create_task_group
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from retriever.root import Root
from service import keys, problems, security
from service.batching import Batchers
from service.library import Library
from service.middleware import Gate
from service.readiness import Readiness
from service.routes import collections, docs, documents, embeddings, health, page, rerank, search
from service.searching import Searching
from service.settings import Settings
from service.telemetry import Metrics, Observed

DESCRIPTION = """Multilingual search over documents, pictures and code.

Errors are `application/problem+json` (RFC 9457); `code` is stable. Offsets count Unicode code points."""


def create_app(settings: Settings) -> FastAPI:
    """The service over the collections of `settings.root`. They are opened and searched once when it starts."""
    app = FastAPI(
        title="Polyseek", version=version("polyseek"), description=DESCRIPTION, lifespan=_lifespan,
        openapi_url=None, generate_unique_id_function=lambda route: route.name,
    )  # fmt: skip
    app.state.settings = settings
    app.state.guard = security.Guard(settings)
    app.state.metrics = Metrics()
    app.state.metrics.queue_limit.set(settings.queue)
    app.state.library = Library(
        Root(settings.root, reranker=settings.reranker, memory=settings.memory, gpu_memory=settings.gpu_memory),
        threads=settings.threads,
        queue=settings.queue,
        dropped=app.state.metrics.dropped,
    )
    app.state.batchers = Batchers(app.state.metrics, queue=settings.queue, cache=settings.query_cache)
    app.state.searching = Searching(app.state.library, app.state.batchers, app.state.metrics, settings.max_timeout)
    app.state.readiness = Readiness(
        app.state.library, app.state.batchers, {keys.FILE_NAME: app.state.guard.keys.troubles}
    )
    app.state.metrics.watch(app.state.library, app.state.readiness.failing, app.state.readiness.degraded)
    routers = [part.router for part in (collections, search, documents, embeddings, rerank, health, docs, page)]
    for router in routers:
        app.include_router(router)
    problems.install(app, routers)
    # The last one added sees a request first.
    app.add_middleware(Gate, guard=app.state.guard, limit=settings.max_body_bytes)
    if settings.cors_origins:
        app.add_middleware(CORSMiddleware, **security.cross_origin(settings))
    app.add_middleware(Observed, metrics=app.state.metrics)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with create_task_group() as tasks:
        tasks.start_soon(app.state.readiness.warm)
        yield
        tasks.cancel_scope.cancel()
        app.state.readiness.close()
    app.state.batchers.close()
    app.state.library.close()
