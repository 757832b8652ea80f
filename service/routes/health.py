"""Alive, ready, and metrics."""

from typing import cast

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service import schemas
from service.problems import problem
from service.readiness import Readiness
from service.responses import json_bytes
from service.telemetry import Metrics

router = APIRouter(tags=["operation"])


@router.get("/livez")
async def alive() -> Response:
    """The process runs and answers."""
    return json_bytes({"status": "alive"})


@router.get("/readyz", responses={200: {"model": schemas.Readiness}})
async def ready(request: Request) -> Response:
    """The service has encoded and searched; 503 before that, when no collection answers, and when it is stopped."""
    report = await cast(Readiness, request.app.state.readiness).check()
    failing = {name: problem(error, request.url.path) for name, error in report.failing.items()}
    status = "degraded" if failing or report.degraded else "ready"
    return json_bytes(
        {"status": status, "collections": report.answering, "failing": failing, "degraded": report.degraded}
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Metrics in Prometheus' text format."""
    return Response(await cast(Metrics, request.app.state.metrics).text(), media_type=CONTENT_TYPE_LATEST)
