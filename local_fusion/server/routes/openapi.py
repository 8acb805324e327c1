"""`/openapi.json`: every address of this server, what it takes and what it answers."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from local_fusion.server.door.gate import OPEN
from local_fusion.server.problems import Json
from local_fusion.server.wire.declared import ANYWHERE, errors

router = APIRouter()
_KEY = "key"
_BODY = ("post", "put", "patch")


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The OpenAPI description that this one is part of."""
    return Json(description(request.app))


def description(app: FastAPI) -> dict[str, Any]:
    """What FastAPI knows of the routes, and what the layers before them may answer."""
    found = deepcopy(app.openapi())
    components = found.setdefault("components", {})
    components["securitySchemes"] = {_KEY: {"type": "http", "scheme": "bearer"}}
    for name in ("HTTPValidationError", "ValidationError"):  # bodies are checked by our own hands, in OpenAI's form
        components.get("schemas", {}).pop(name, None)
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            responses.pop("422", None)
            more = (*ANYWHERE, 408, 413, 415) if method in _BODY else ANYWHERE
            for status, declared in errors(*more).items():
                responses.setdefault(str(status), declared)
            if path not in OPEN:
                operation["security"] = [{_KEY: []}, {}]  # none where the server has no keys
    return found
