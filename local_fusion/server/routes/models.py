"""`/v1/models`: each fusion, the alias of the default, each member."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from local_fusion.errors import CallError, RequestError
from local_fusion.fusion.recipe import Recipe
from local_fusion.openai_api import FUSION_ALIAS
from local_fusion.server.orders.choose import may_ask
from local_fusion.server.problems import Json
from local_fusion.server.service import Service, caller_of, service_of
from local_fusion.server.wire.declared import errors

router = APIRouter()


@router.get("/v1/models", responses=errors(401))
async def list_models(request: Request) -> Json:
    """Everything that this key may name as `model`."""
    service, caller = service_of(request), caller_of(request)
    names = [name for name in service.catalog.names() if may_ask(service, caller, name)]
    return Json({"object": "list", "data": [await _entry(service, name) for name in names]})


@router.get("/v1/models/{name:path}", responses=errors(401, 404))
async def get_model(request: Request, name: str) -> Json:
    """One of them."""
    service = service_of(request)
    if name not in service.catalog.names() or not may_ask(service, caller_of(request), name):
        raise RequestError(
            f"no model called {name[:64]!r} is served here; GET /v1/models lists them", "model_not_found", "model"
        )
    return Json(await _entry(service, name))


async def _entry(service: Service, name: str) -> dict[str, Any]:
    recipe = service.catalog.fusion(name)
    members = [name] if recipe is None else list(recipe.settings.models)
    contexts = [await _context(service, model) for model in members]
    known = [context for context in contexts if context is not None]
    context = min(known) if known else None
    ours = {
        "kind": "member" if recipe is None else "fusion",
        "ready": service.ready and len(known) == len(members),
        "context_length": context,
        "default": recipe is not None and recipe.name == service.catalog.default,
    }
    if recipe is not None:
        ours |= _recipe(recipe, name)
    entry = {"id": name, "object": "model", "created": service.started, "owned_by": "local-fusion"}
    return entry | {"context_length": context, "max_model_len": context, "local_fusion": ours}


def _recipe(recipe: Recipe, name: str) -> dict[str, Any]:
    about: dict[str, Any] = {
        "mode": recipe.settings.mode,
        "panel": [seat.model for seat in recipe.seats],
        "judge": recipe.judge,
        "writer": list(recipe.writers),
    }
    if name == FUSION_ALIAS:
        about["alias_of"] = recipe.name
    return about


async def _context(service: Service, model: str) -> int | None:
    if not service.ready:
        return None
    try:
        return (await service.engine(model).info()).context
    except CallError:
        return None
