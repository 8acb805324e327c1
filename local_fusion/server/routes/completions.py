"""`/v1/completions`: members alone, without a chat template."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from local_fusion.errors import LocalFusionError
from local_fusion.openai_api.completions import CompletionRequest, parse_completion, text_choice
from local_fusion.openai_api.reply import usage
from local_fusion.openai_api.schemas import completion_schema
from local_fusion.server.door import sse
from local_fusion.server.door.body import read_json
from local_fusion.server.door.presence import admitted, unless_gone
from local_fusion.server.ids import new_id
from local_fusion.server.orders.choose import text_order
from local_fusion.server.orders.completing import run_text
from local_fusion.server.orders.live import Live
from local_fusion.server.orders.meter import Meter
from local_fusion.server.orders.order import Piece, Reply
from local_fusion.server.problems import Json, described
from local_fusion.server.service import caller_of, service_of
from local_fusion.server.watch.logs import log
from local_fusion.server.wire.declared import GENERATING, errors, json_body, streams
from local_fusion.server.wire.fingerprint import text_fingerprint

router = APIRouter()


@router.post(
    "/v1/completions",
    openapi_extra=json_body(completion_schema()),
    responses={200: streams("A text completion."), **errors(*GENERATING)},
)
async def completions(request: Request) -> Response:
    """A member continues texts or token ids, also only to score them; fusions have no completions."""
    service, caller = service_of(request), caller_of(request)
    asked = parse_completion(await read_json(request))
    order = text_order(service, caller, asked, new_id("cmpl-"))
    engines = Meter(service.engines)
    head = {
        "id": order.id,
        "object": "text_completion",
        "created": int(time.time()),
        "model": order.model,
        "system_fingerprint": text_fingerprint(service.config, order.model),
    }
    place = await admitted(request)
    live = Live(lambda hear: run_text(engines, order, hear, asked.stream), place, engines)
    if asked.stream:
        await unless_gone(request, live.begun(service.settings.heartbeat_s))
        return sse.response(_chunks(live, asked, head), service.settings.heartbeat_s, live.ended)
    reply = await unless_gone(request, live.reply())
    choices = [
        text_choice(index, said.text, None if asked.logprobs is None else said.logprobs, said.finish_reason)
        for index, said in enumerate(reply.said)
    ]
    return Json(head | {"choices": choices, "usage": usage(reply.tokens)})


async def _chunks(live: Live, asked: CompletionRequest, head: dict[str, Any]) -> AsyncIterator[bytes]:
    sent: dict[int, int] = {}
    try:
        async for item in live:
            if isinstance(item, Piece) and (item.text or item.logprobs):
                before = sent.get(item.index, 0)
                sent[item.index] = before + len(item.text)
                logprobs = None if asked.logprobs is None else item.logprobs
                yield sse.event(head | {"choices": [text_choice(item.index, item.text, logprobs, None, before)]})
            elif isinstance(item, Reply):
                for index, said in enumerate(item.said):
                    yield sse.event(head | {"choices": [text_choice(index, "", None, said.finish_reason)]})
                if asked.stream_usage:
                    yield sse.event(head | {"choices": [], "usage": usage(item.tokens)})
    except Exception as problem:
        if not isinstance(problem, LocalFusionError):
            log.failed("stream_failed", problem)
        yield sse.event(described(problem)[1])
    yield sse.DONE
