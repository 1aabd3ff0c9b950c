"""`/healthz`, `/readyz`, `/metrics`: for whoever runs the service; they need no key."""

from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

from app.http.callers import store_of
from app.http.documents import Health, content_of

router = APIRouter(tags=["operations"])


_TEXT: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}


@router.get(
    "/healthz", responses={200: {"description": "It answers", "content": content_of(Health)}}
)
async def healthz() -> JSONResponse:
    """The process answers."""
    return JSONResponse({"status": "ok"})


@router.get(
    "/readyz",
    responses={
        200: {"description": "It can decide and record", "content": content_of(Health)},
        503: {"description": "It cannot, and says why", "content": content_of(Health)},
    },
)
async def readyz(request: Request) -> JSONResponse:
    """The database is reachable, at the migration that this version expects, and writable."""
    if request.app.state.door.closing:
        return JSONResponse({"status": "not ready", "reason": "this server is stopping"}, 503)
    trouble = await store_of(request).trouble()
    if trouble is None:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "not ready", "reason": trouble}, 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"description": "In Prometheus' text format", "content": _TEXT}},
)
async def metrics(request: Request) -> Response:
    """Prometheus metrics."""
    registry = request.app.state.metrics.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
