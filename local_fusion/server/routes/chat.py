"""`/v1/chat/completions`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from local_fusion.fusion.events import Deltas
from local_fusion.openai_api.chat_reply import Head
from local_fusion.openai_api.request import ChatRequest, parse_chat
from local_fusion.openai_api.schemas import chat_schema
from local_fusion.server.documents.place import as_sent, refers
from local_fusion.server.door import sse
from local_fusion.server.door.body import read_json
from local_fusion.server.door.callers import Caller
from local_fusion.server.door.presence import admitted, admitted_for, unless_gone
from local_fusion.server.ids import new_id
from local_fusion.server.orders.choose import order_for
from local_fusion.server.orders.live import Live
from local_fusion.server.orders.meter import Meter
from local_fusion.server.orders.order import Order, OuterOrder, Reply
from local_fusion.server.orders.run import Hear, execute
from local_fusion.server.problems import Json
from local_fusion.server.service import Service, caller_of, service_of
from local_fusion.server.wire.chat_body import body_of, first_model
from local_fusion.server.wire.chat_stream import chat_events
from local_fusion.server.wire.declared import GENERATING, errors, json_body, streams
from local_fusion.server.wire.fingerprint import fingerprint

router = APIRouter()


@router.post(
    "/v1/chat/completions",
    openapi_extra=json_body(chat_schema()),
    responses={200: streams("A chat completion."), **errors(*GENERATING)},
)
async def chat(request: Request) -> Response:
    """A fusion or a member answers a conversation; streamed or whole."""
    service, caller = service_of(request), caller_of(request)
    body = await read_json(request)
    request_id = new_id("chatcmpl-")

    async def prepared() -> tuple[ChatRequest, Order, Meter, Head]:
        whole = await _with_documents(service, caller, body)
        with as_sent(body.get("messages"), whole.get("messages")):
            asked = parse_chat(whole)
        order = order_for(service, caller, asked, request_id)
        engines = Meter(service.engines)
        head = Head(request_id, int(time.time()), fingerprint(service.config, order), first_model(order))
        return asked, order, engines, head

    if refers(body.get("messages")):
        place, (asked, order, engines, head) = await admitted_for(request, prepared)
    else:
        asked, order, engines, head = await prepared()
        place = await admitted(request)
    deltas: Deltas = asked.stream and (True if "panel" in asked.fusion.include else "writer")

    async def work(hear: Hear) -> Reply:
        reply = await execute(engines, order, hear, deltas)
        service.storage.receipts.keep(request_id, caller.owner, asked.messages, reply.fused)
        return reply

    live = Live(work, place, engines)
    if asked.stream:
        await unless_gone(request, live.begun(service.settings.heartbeat_s))
        events = chat_events(live, asked, head, isinstance(order, OuterOrder))
        return sse.response(events, service.settings.heartbeat_s, live.ended)
    reply = await unless_gone(request, live.reply())
    return Json(body_of(reply, asked, replace(head, model=reply.model)))


async def _with_documents(service: Service, caller: Caller, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body with the texts of the files that its messages refer to."""
    messages = body.get("messages")
    if not refers(messages):
        return body
    return {**body, "messages": await service.storage.documents.placed(caller.owner, messages)}
