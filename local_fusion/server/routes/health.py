"""`/health/live`: this process runs. `/health/ready`: every engine answers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from local_fusion.server.door.callers import NOBODY
from local_fusion.server.problems import Json
from local_fusion.server.service import caller_of, service_of

router = APIRouter()


@router.get("/health/live")
async def live() -> Response:
    """The process runs and its event loop turns."""
    return Json({"live": True})


@router.get("/health/ready", responses={503: {"description": "An engine does not answer, or none is up yet."}})
async def ready(request: Request) -> Response:
    """Every engine answers a one-token probe; who has shown no key hears which does not, but not why."""
    found = await service_of(request).readiness()
    body: dict[str, Any] = {"ready": found.ready}
    if found.detail:
        body["detail"] = found.detail
    known = caller_of(request) is not NOBODY
    body["engines"] = {
        name: {"ready": health.ready} | ({"detail": health.detail} if known and health.detail else {})
        for name, health in found.engines.items()
    }
    return Json(body, 200 if found.ready else 503, {"cache-control": "no-store"} | _retry(found.ready))


def _retry(ready: bool) -> dict[str, str]:
    return {} if ready else {"retry-after": "5"}
