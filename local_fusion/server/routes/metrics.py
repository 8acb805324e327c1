"""`/metrics`: Prometheus' text format."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from local_fusion.server.service import service_of
from local_fusion.server.watch.metrics import CONTENT_TYPE

router = APIRouter()


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"description": "Counters and gauges.", "content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """What was counted since the start, and the engines' states now."""
    return Response(service_of(request).metrics.text(), headers={"content-type": CONTENT_TYPE})
