"""What routes declare in the OpenAPI file: bodies by their schemas, errors by their statuses."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path

from local_fusion.openai_api.schemas import error_schema

Responses = dict[int | str, dict[str, Any]]
_WORDS = {
    400: "The request is wrong; `param` names the field.",
    401: "No key, or a wrong one.",
    403: "This key may not use this model.",
    404: "There is no such model or object.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    405: "This method is not for this address.",
    414: "The address is too long.",
    415: "The body is not JSON by its content type.",
    431: "The headers are too large.",
    429: "Too many requests, of this key or of all; `retry-after` says when.",
    499: "The client hung up.",
    500: "A mistake of the server.",
    503: "Engines are missing or failed: no answer could be had.",
    504: "The answer was not there before a deadline.",
}
ANYWHERE = (401, 403, 414, 431, 500)
"""What stands before every route may answer."""
GENERATING = (400, 401, 403, 404, 408, 413, 415, 429, 499, 500, 503, 504)
"""What any route that asks engines may answer."""


def _named(prefix: str) -> Any:
    """A path parameter that is an id: described only, for any other one is simply not found."""
    return Path(json_schema_extra={"pattern": f"^{prefix}[0-9a-f]{{24}}$"})


FileId = Annotated[str, _named("file-")]
BatchId = Annotated[str, _named("batch_")]
ResponseId = Annotated[str, _named("resp_")]


def json_body(schema: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that takes a JSON object."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def query(**schemas: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route with these query parameters, none of them needed."""
    return {"parameters": [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]}


def errors(*statuses: int) -> Responses:
    """`responses` of a route: these errors, in OpenAI's form."""
    content = {"application/json": {"schema": error_schema()}}
    return {status: {"description": _WORDS[status], "content": content} for status in statuses}


def streams(description: str) -> dict[str, Any]:
    """A 200 that is JSON, or server-sent events where `stream` is true."""
    kinds = {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}}
    return {"description": description, "content": kinds}
