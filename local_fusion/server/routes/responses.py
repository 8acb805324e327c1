"""`/v1/responses`: one answer, streamed or whole, stored or not, with its client or in the background."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from local_fusion.engine import Engines
from local_fusion.errors import RequestError
from local_fusion.openai_api.file_objects import list_object, parse_listing
from local_fusion.openai_api.responses_request import LOGPROBS
from local_fusion.openai_api.responses_schema import responses_schema
from local_fusion.server.documents.place import refers
from local_fusion.server.door import sse
from local_fusion.server.door.admission import Place
from local_fusion.server.door.body import read_json
from local_fusion.server.door.presence import admitted, admitted_for, unless_gone
from local_fusion.server.orders.live import Live
from local_fusion.server.problems import Json
from local_fusion.server.responses.desk import Responses
from local_fusion.server.responses.make import Made
from local_fusion.server.responses.run import Run, above, sent
from local_fusion.server.service import caller_of, service_of
from local_fusion.server.wire.declared import GENERATING, ResponseId, errors, json_body, query, streams

router = APIRouter()
MOST, USUAL = 100, 20
_STORED = (400, 401, 404, 500, 503)
_INCLUDE: dict[str, Any] = {"type": "array", "items": {"enum": [LOGPROBS]}}
_GET_QUERY: dict[str, dict[str, Any]] = {
    "stream": {"type": "boolean"},
    "starting_after": {"type": "integer", "minimum": 0},
    "include": _INCLUDE,
}
_LIST_QUERY: dict[str, dict[str, Any]] = {
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST},
    "after": {"type": "string"},
    "order": {"enum": ["asc", "desc"]},
    "include": _INCLUDE,
}
_GET = ("include", "include[]", "stream", "starting_after", "include_obfuscation")


@router.post(
    "/v1/responses",
    openapi_extra=json_body(responses_schema()),
    responses={200: streams("A response."), **errors(*GENERATING)},
)
async def create(request: Request) -> Response:
    """A fusion or a member answers."""
    service = service_of(request)
    responses = service.storage.responses
    body = await read_json(request)
    heartbeat_s = service.settings.heartbeat_s

    async def prepared() -> tuple[Made, Engines]:
        made = await responses.make(caller_of(request), body)
        return made, service.engines

    place: Place | None = None
    if body.get("previous_response_id") is not None or refers(body.get("input"), "input"):
        place, (made, engines) = await admitted_for(request, prepared)
    else:
        made, engines = await prepared()
    if made.asked.background:
        if place is not None:
            place.leave()
        run = await responses.launch(made)
        return sse.response(run.follow(), heartbeat_s, _nothing) if made.asked.stream else Json(run.body())
    live = responses.begin(made, engines, place or await admitted(request))
    if made.asked.stream:
        await unless_gone(request, live.begun(heartbeat_s))
        return sse.response(_framed(responses, made, live), heartbeat_s, live.ended)
    return Json(await unless_gone(request, responses.whole(made, live)))


@router.get(
    "/v1/responses/{response_id}",
    openapi_extra=query(**_GET_QUERY),
    responses={200: streams("A stored response."), **errors(*_STORED)},
)
async def get(request: Request, response_id: ResponseId) -> Response:
    """A stored response, or (`stream=true`) the events of a run in the background, from any number on."""
    service, caller = service_of(request), caller_of(request)
    responses = service.storage.responses
    stream, after = _get_query(request)
    if not stream:
        return Json(await responses.body(caller, response_id))
    found = await responses.events(caller, response_id)
    source = found.follow(after) if isinstance(found, Run) else _each(above(found, after))
    return sse.response(source, service.settings.heartbeat_s, _nothing)


@router.delete("/v1/responses/{response_id}", responses=errors(*_STORED))
async def delete(request: Request, response_id: ResponseId) -> Response:
    """Away with it; a run in the background is ended."""
    await service_of(request).storage.responses.delete(caller_of(request), response_id)
    return Json({"id": response_id, "object": "response", "deleted": True})


@router.post("/v1/responses/{response_id}/cancel", responses=errors(*_STORED))
async def cancel(request: Request, response_id: ResponseId) -> Response:
    """End a run in the background."""
    return Json(await service_of(request).storage.responses.cancel(caller_of(request), response_id))


@router.get("/v1/responses/{response_id}/input_items", openapi_extra=query(**_LIST_QUERY), responses=errors(*_STORED))
async def input_items(request: Request, response_id: ResponseId) -> Response:
    """A page of what this response was asked with (not of the turns before it)."""
    query = {name: value for name, value in request.query_params.items() if name not in ("include", "include[]")}
    _check_include(request)
    listing = parse_listing(query, MOST, USUAL)
    stored = await service_of(request).storage.responses.store.get(caller_of(request).owner, response_id)
    items = list(stored.items) if listing.order == "asc" else list(reversed(stored.items))
    if listing.after is not None:
        ids = [item["id"] for item in items]
        if listing.after not in ids:
            raise RequestError("after names nothing in this list; begin again without it", "invalid_field", "after")
        items = items[ids.index(listing.after) + 1 :]
    return Json(list_object(items[: listing.limit], len(items) > listing.limit))


async def _framed(responses: Responses, made: Made, live: Live) -> AsyncIterator[bytes]:
    async for event in responses.streamed(made, live):
        yield sent(event)


async def _each(events: list[bytes]) -> AsyncIterator[bytes]:
    for event in events:
        yield event


async def _nothing() -> None:
    """A run in the background does not end with its listener."""


def _get_query(request: Request) -> tuple[bool, int]:
    given: Mapping[str, str] = request.query_params
    for name in given:
        if name not in _GET:
            raise RequestError(
                f"the parameter {name[:64]!r} is not supported; leave it out", "unknown_field", name[:64]
            )
    _check_include(request)
    stream, after = given.get("stream", "false").lower(), given.get("starting_after")
    if stream not in ("true", "false"):
        raise RequestError("stream must be true or false", "invalid_field", "stream")
    if given.get("include_obfuscation", "false").lower() != "false":
        raise RequestError("include_obfuscation is not supported", "unsupported_field", "include_obfuscation")
    if after is None:
        return stream == "true", -1
    if stream != "true" or not (after.isascii() and after.isdigit() and len(after) < 16):
        raise RequestError(
            "starting_after must be a whole number, together with stream=true", "invalid_field", "starting_after"
        )
    return True, int(after)


def _check_include(request: Request) -> None:
    """What may be asked for is stored in any case."""
    given = [*request.query_params.getlist("include"), *request.query_params.getlist("include[]")]
    if any(name != LOGPROBS for name in given):
        raise RequestError(f"include: the one value here is {LOGPROBS}", "unsupported_field", "include")
