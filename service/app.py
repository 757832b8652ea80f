"""The application: settings in, an ASGI app out. Nothing happens at import, and several may live in one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import create_task_group
from fastapi import FastAPI

from retriever.root import Root
from service import openapi, problems
from service.library import Library
from service.middleware import BodyLimit, KeyCheck, PathsAsSent
from service.readiness import Readiness
from service.routes import collections, documents, health, page, search
from service.settings import Settings
from service.telemetry import Metrics, Observed

DESCRIPTION = """Multilingual search over documents, pictures and code.

Errors are `application/problem+json` (RFC 9457); `code` is stable. Offsets count Unicode code points."""


def create_app(settings: Settings) -> FastAPI:
    """The service over the collections of `settings.root`. They are opened and searched once when it starts."""
    app = FastAPI(
        title="Polyseek", version=version("polyseek"), description=DESCRIPTION, lifespan=_lifespan, redoc_url=None
    )
    app.state.settings = settings
    app.state.metrics = Metrics()
    app.state.library = Library(
        Root(settings.root, reranker=settings.reranker, memory=settings.memory, gpu_memory=settings.gpu_memory),
        threads=settings.threads,
    )
    app.state.readiness = Readiness(app.state.library)
    app.state.metrics.watch(app.state.library)
    routers = [part.router for part in (collections, search, documents, health, page)]
    for router in routers:
        app.include_router(router)
    problems.install(app, routers)
    openapi.install(app)
    # The last one added sees a request first.
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes)
    if settings.api_key is not None:
        app.add_middleware(KeyCheck, key=settings.api_key.get_secret_value())
    app.add_middleware(Observed, metrics=app.state.metrics)
    app.add_middleware(PathsAsSent)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with create_task_group() as tasks:
        tasks.start_soon(app.state.readiness.warm)
        yield
        tasks.cancel_scope.cancel()
    app.state.library.close()
