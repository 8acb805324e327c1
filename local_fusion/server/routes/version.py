"""`/version`: what this server runs, for a receipt or a report."""

from __future__ import annotations

import hashlib

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from local_fusion import __version__
from local_fusion.runtime import identity_of_models, versions
from local_fusion.server.problems import Json
from local_fusion.server.service import caller_of, service_of

router = APIRouter()


@router.get("/version")
async def version(request: Request) -> Response:
    """Versions of the packages, and per fusion a digest of its settings and models."""
    service, caller = service_of(request), caller_of(request)
    models = identity_of_models(service.config, service.catalog.models)
    fusions = {
        name: _digest(
            recipe.settings.model_dump(mode="json"), {model: models[model] for model in recipe.settings.models}
        )
        for name, recipe in service.catalog.recipes.items()
        if caller.may_use(name)
    }
    return Json({"version": __version__, "versions": versions(), "fusions": fusions})


def _digest(*parts: object) -> str:
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
