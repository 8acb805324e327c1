"""What is heard of an order, told to the response that comes of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from local_fusion.engine import Engines
from local_fusion.errors import CallError
from local_fusion.fusion.events import (
    AnalysisDone,
    AnalysisStarted,
    EarlyExit,
    MemberDelta,
    MemberDone,
    MemberFailed,
    MemberStarted,
)
from local_fusion.openai_api.chat_reply import full_usage
from local_fusion.openai_api.request import ChatRequest
from local_fusion.openai_api.responses_events import Event, ResponseEvents, usage_of
from local_fusion.openai_api.responses_fusion import FusionItem
from local_fusion.server.orders.live import Live
from local_fusion.server.orders.order import FusionBegan, FusionEnded, Heard, MemberOrder, Order, Piece, Reply
from local_fusion.server.problems import described
from local_fusion.server.wire.chat_body import fusion_of

COUNT_S = 2.0
"""Seconds that the end of a response waits for the count of what was thought: the model may be asleep by then."""
_LAST = ("response.completed", "response.incomplete", "response.failed")


async def told(
    live: Live,
    events: ResponseEvents,
    order: Order,
    asked: ChatRequest,
    engines: Engines,
    ended: Callable[[Reply], None],
) -> AsyncIterator[Event]:
    """The events of an order under way, up to the one that ends it well; `ended` hears the reply before that one.

    Raises what the order raises."""
    async for item in live:
        if isinstance(item, Reply):
            ended(item)
            finish(events, item, asked, await _thought(engines, item))
        else:
            tell(events, item, order)
        for event in events.take():
            yield event


def tell(events: ResponseEvents, item: Heard, order: Order) -> None:
    """One thing heard."""
    if isinstance(item, Piece):
        events.piece(item.text, item.reasoning, item.tools, item.logprobs)
    elif isinstance(item, FusionBegan):
        events.fusion_began(_numbered(order))
    elif isinstance(item, FusionEnded):
        events.fusion_ended(item.error, item.code)
    elif (fusion := events.fusion) is not None:
        _tell_fusion(fusion, item)


def finish(events: ResponseEvents, reply: Reply, asked: ChatRequest, reasoning_tokens: int = 0) -> None:
    """The order has ended well. `asked` says which parts of the receipt the client wants."""
    said = reply.said[0]
    extra: dict[str, Any] = {"completed_at": int(time.time())}
    fusion = fusion_of(reply, asked)
    if fusion is not None:
        extra["fusion"] = {**fusion, "replaced": True} if reply.replaced else fusion
    usage = usage_of(reply.tokens, reasoning_tokens)
    if "usage" in asked.fusion.include:
        usage["fusion"] = full_usage(reply.tokens, reply.calls)["fusion"]
    events.finished(
        reply.model, said.text, said.finish_reason, usage, said.reasoning, said.tool_calls, said.logprobs, extra
    )


def is_last(event: Event) -> bool:
    """The event that ends a stream."""
    return event["type"] in _LAST


def fail(events: ResponseEvents, problem: BaseException) -> None:
    """The order has failed."""
    _, body, _ = described(problem)
    error = body["error"]
    failed = error.get("failed_models")
    events.failed(error["message"], error["code"], {"fusion": {"failed_models": failed}} if failed else None)


async def _thought(engines: Engines, reply: Reply) -> int:
    """Tokens of the final answer's reasoning; engines count what was generated, not what of it was thought."""
    reasoning = reply.said[0].reasoning
    if not reasoning or reply.model not in engines:
        return 0
    try:
        async with asyncio.timeout(COUNT_S):
            return len(await engines[reply.model].tokenize(reasoning, False))
    except (CallError, TimeoutError):
        return 0


_TOLD: dict[type[Any], Callable[[FusionItem, Any], None]] = {
    MemberStarted: lambda fusion, heard: fusion.added(heard.model, heard.sample, heard.round),
    MemberDelta: lambda fusion, heard: fusion.delta(
        heard.model, heard.sample, heard.text, heard.reasoning, heard.round
    ),
    MemberDone: lambda fusion, heard: fusion.completed(heard.answer),
    MemberFailed: lambda fusion, heard: fusion.failed(heard.failure),
    EarlyExit: lambda fusion, heard: fusion.not_needed(),
    AnalysisStarted: lambda fusion, heard: fusion.analysis_started(heard.model),
    AnalysisDone: lambda fusion, heard: fusion.analysis_done(heard.analysis),
}


def _tell_fusion(fusion: FusionItem, heard: Any) -> None:
    tell_it = _TOLD.get(type(heard))
    if tell_it is not None:  # the writer's and the guard's work has no event of its own in OpenRouter's Fusion
        tell_it(fusion, heard)


def _numbered(order: Order) -> frozenset[str]:
    """Models that the panel asks for several samples."""
    if isinstance(order, MemberOrder):
        return frozenset()
    counts: Counter[str] = Counter()
    for seat in order.recipe.seats:
        counts[seat.model] += seat.samples
    return frozenset(model for model, count in counts.items() if count > 1)
