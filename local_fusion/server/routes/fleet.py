"""`/fleet.json`: every engine as it is now, the turns they took, and the GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from fastapi import APIRouter, Request

from local_fusion import __version__
from local_fusion.cluster.state import HostState
from local_fusion.server.door.callers import Caller
from local_fusion.server.problems import Json
from local_fusion.server.service import Service, caller_of, service_of
from local_fusion.server.watch.fleet_view import Watched, hosts_of
from local_fusion.server.watch.gpus import GpuWatch

router = APIRouter()
_DETAIL_AT_MOST = 300
# Of an engine in this process nobody counts these.
_UNKNOWN = {"in_flight": None, "waiting": None, "restarts": None}


@router.get("/fleet.json")
async def fleet(request: Request) -> Json:
    """Engines (of the models that this key may reach), turns and GPUs. Answers while the engines start, too."""
    service = service_of(request)
    engines = service.engines if service.ready else None
    watched = engines if isinstance(engines, Watched) else None
    names = _names(service, caller_of(request))
    hosts = [_host(state) for state in hosts_of(engines, service.catalog.models) if state.model in names]
    turns = None if watched is None else {"swaps": watched.swaps, "swap_s": round(watched.swap_s, 3)}
    return Json(
        {
            "object": "fleet",
            "version": __version__,
            "started": service.started,
            "ready": service.ready,
            "hosts": service.config.runtime.hosts,
            "engines": hosts if watched is not None else [host | _UNKNOWN for host in hosts],
            "turns": turns,
            "gpus": [asdict(gpu) for gpu in await _watch(request).look()],
        }
    )


def _names(service: Service, caller: Caller) -> Sequence[str]:
    """Models that this caller may use, alone or in a fusion."""
    allowed = {name for name in service.catalog.models if caller.may_use(name)}
    for name, recipe in service.catalog.recipes.items():
        if caller.may_use(name):
            allowed.update(recipe.settings.models)
    return [name for name in service.catalog.models if name in allowed]


def _host(state: HostState) -> dict[str, Any]:
    body = asdict(replace(state, detail=state.detail.partition("\n")[0][:_DETAIL_AT_MOST]))
    del body["pid"]
    return body


def _watch(request: Request) -> GpuWatch:
    state = request.app.state
    if not hasattr(state, "gpus"):
        state.gpus = GpuWatch()
    watch: GpuWatch = state.gpus
    return watch
