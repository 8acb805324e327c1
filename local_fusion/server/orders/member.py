"""One model alone: an order's choices as calls of its engine, each bounded in time, every failure a `CallError`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from local_fusion.engine import Engine, Engines
from local_fusion.errors import CallAborted, CallError, CallTimeout
from local_fusion.fusion.calls import seed_of
from local_fusion.fusion.clock import Clock, Overdue
from local_fusion.server.orders.order import MemberOrder, Said
from local_fusion.types import Call, Completion, Delta, Request, StageUsage

T = TypeVar("T")
Tell = Callable[[Delta], None]


def call_of(order: MemberOrder, index: int, stream: bool) -> Call:
    """The call of one choice; the first has the order's own seed."""
    root = Request("", (), order.seed)
    return Call(
        id=f"{order.id}/member/{order.model}/{index}",
        messages=order.messages,
        sampling=order.sampling,
        seed=order.seed if index == 0 else seed_of(root, order.model, index, "panel"),
        json_schema=order.json_schema,
        tools=() if order.tool_choice == "none" else order.tools,
        tool_choice=order.tool_choice if order.tools and order.tool_choice != "none" else None,
        cache_salt=order.cache_salt,
        stream=stream,
        logprobs=order.logprobs,
        stage="write",
        priority=0,
        timeout_s=order.timeout_s,
    )


async def ask(engines: Engines, model: str, call: Call, tell: Tell | None) -> Completion:
    """Run a call to its end; `tell` hears the deltas of a streamed one. Raises CallError."""
    if model not in engines:
        raise CallError(f"no engine named {model} is running", "engine_died")
    engine = engines[model]
    work = engine.generate(call) if tell is None else _streamed(engine, call, tell)
    completion = await bounded(work, model, call.timeout_s)
    if completion.finish_reason == "abort":
        raise CallAborted(f"{model} was aborted before its answer was complete")
    return completion


async def bounded(work: Awaitable[T], model: str, limit_s: float | None) -> T:
    """Await an engine's work; waiting for a place or a turn uses up nothing of `limit_s`. Raises CallError, whatever
    the engine raises."""
    try:
        return await Clock().limit(work, limit_s)
    except (Overdue, TimeoutError):
        raise CallTimeout(f"{model} did not end within {limit_s or 0:g} s; shorten max_tokens") from None
    except CallError:
        raise
    except Exception as problem:  # an engine's own words may hold a prompt
        raise CallError(f"{model}: the engine raised {type(problem).__name__}") from None


async def together(works: Sequence[Awaitable[T]]) -> list[T]:
    """All of them at once; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def said_of(completion: Completion) -> Said:
    """A completion as a choice of the reply."""
    return Said(
        completion.text or "",
        completion.finish_reason,
        completion.reasoning,
        completion.tool_calls,
        completion.logprobs,
    )


def usage_of(completion: Completion, sample: int, seed: int) -> StageUsage:
    """A completion as an entry of the reply's calls."""
    return StageUsage("write", completion.model, sample, completion.tokens, completion.timing, completion.call_id, seed)


async def _streamed(engine: Engine, call: Call, tell: Tell) -> Completion:
    completion: Completion | None = None
    async with aclosing(engine.stream(call)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Delta):
                tell(piece)
            else:
                completion = piece
    if completion is None:
        raise CallError(f"{call.id}: the stream ended without a completion")
    return completion
