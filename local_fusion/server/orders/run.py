"""Runs an order: what the client hears while it runs, and the reply at its end. Knows nothing of HTTP."""

from __future__ import annotations

from dataclasses import replace

from local_fusion.engine import Engines
from local_fusion.errors import CallError, FusionError
from local_fusion.fusion.events import Deltas, Event, Listener, WriterDelta, WriterStarted
from local_fusion.fusion.fuse import fuse
from local_fusion.server.orders.member import Tell, ask, call_of, said_of, together, usage_of
from local_fusion.server.orders.order import (
    FusionBegan,
    FusionEnded,
    FusionOrder,
    Hear,
    Heard,
    MemberOrder,
    Order,
    OuterOrder,
    Piece,
    Reply,
    Said,
    tool_pieces,
)
from local_fusion.types import Completion, Delta, Fused, StageUsage

__all__ = ["Hear", "Heard", "Outgoing", "execute", "run_fusion", "run_member"]


async def execute(engines: Engines, order: Order, hear: Hear, deltas: Deltas) -> Reply:
    """Run `order` to its end. `deltas`: as in `Listener`. Raises FusionError or CallError.

    Cancelling aborts every engine call of the order.
    """
    several = order.member.parallel_tools if isinstance(order, OuterOrder) else order.parallel_tools
    if several:
        return await _run(engines, order, hear, deltas)
    reply = await _run(engines, order, _first_call_only(hear), deltas)
    return replace(reply, said=tuple(replace(said, tool_calls=said.tool_calls[:1]) for said in reply.said))


async def _run(engines: Engines, order: Order, hear: Hear, deltas: Deltas) -> Reply:
    if isinstance(order, FusionOrder):
        return await run_fusion(engines, order, hear, deltas)
    if isinstance(order, OuterOrder):
        from local_fusion.server.orders.outer import run_outer

        return await run_outer(engines, order, hear, deltas)
    return await run_member(engines, order, hear, bool(deltas))


async def run_fusion(engines: Engines, order: FusionOrder, hear: Hear, deltas: Deltas) -> Reply:
    """Fuse; the final answer is heard as pieces, at the latest when it is there."""
    outgoing = Outgoing(hear, order.streaming == "live" or not order.recipe.settings.guard)
    hear(FusionBegan(order.recipe.name))
    try:
        fused = await fuse(order.request, order.recipe, engines, Listener(outgoing.hear, deltas))
    except FusionError as problem:
        hear(FusionEnded(None, problem.message, problem.code))
        raise
    hear(FusionEnded(fused))
    said = Said(fused.text, fused.finish_reason, fused.reasoning, fused.tool_calls)
    replaced = outgoing.finish(fused)
    return Reply(order.request.id, fused.model, (said,), fused.tokens, fused, replaced, fused.receipt.calls)


async def run_member(engines: Engines, order: MemberOrder, hear: Hear, deltas: bool) -> Reply:
    """One model alone, `n` times at once. As at OpenAI, the prompt of several choices counts once."""
    calls = [call_of(order, index, deltas) for index in range(order.n)]
    completions = await together(
        [ask(engines, order.model, call, _teller(hear, index) if deltas else None) for index, call in enumerate(calls)]
    )
    tokens = replace(completions[0].tokens, completion=sum(one.tokens.completion for one in completions))
    return Reply(
        order.id,
        order.model,
        tuple(said_of(completion) for completion in completions),
        tokens,
        calls=_usages(completions, [call.seed for call in calls]),
    )


class Outgoing:
    """The final answer on its way to the client while a fusion runs. Where a writer fails after something of its own
    was sent, nothing of the next one is."""

    def __init__(self, hear: Hear, live: bool) -> None:
        self._hear = hear
        self._live = live
        self._text = self._reasoning = ""
        self._tools = False
        self._broken = False

    def hear(self, event: Event) -> None:
        """Pass an event on, and with it what of the final answer may already be shown."""
        self._hear(event)
        if isinstance(event, WriterStarted):
            self._broken = bool(self._text or self._reasoning or self._tools)
        if not isinstance(event, WriterDelta) or self._broken:
            return
        # A call of a tool is never overruled by the guard, so it streams in any case.
        text, reasoning = (event.text, event.reasoning) if self._live else ("", "")
        self._text += text
        self._reasoning += reasoning
        self._tools = self._tools or bool(event.tools)
        if text or reasoning or event.tools:
            self._hear(Piece(text, reasoning, event.tools))

    def finish(self, fused: Fused) -> bool:
        """Send what is not sent yet; True where what was sent is not the beginning of the final answer. Raises
        CallError where that is a call of a tool: a client must not take half a call for a whole one."""
        if self._tools and (self._broken or not fused.tool_calls):
            raise CallError("the writer failed in the middle of a tool call that was sent already; ask again")
        if self._broken or not fused.text.startswith(self._text):
            return True
        reasoning = fused.reasoning or ""
        rest = reasoning[len(self._reasoning) :] if reasoning.startswith(self._reasoning) else ""
        tools = () if self._tools else tool_pieces(fused.tool_calls)
        if rest or tools or len(fused.text) > len(self._text):
            self._hear(Piece(fused.text[len(self._text) :], rest, tools))
        return False


def _first_call_only(hear: Hear) -> Hear:
    def heard(item: Heard) -> None:
        if isinstance(item, Piece) and item.tools:
            item = replace(item, tools=tuple(tool for tool in item.tools if tool.index == 0))
            if not (item.text or item.reasoning or item.tools):
                return
        hear(item)

    return heard


def _teller(hear: Hear, index: int) -> Tell:
    def tell(delta: Delta) -> None:
        hear(Piece(delta.text, delta.reasoning, delta.tools, delta.logprobs, index))

    return tell


def _usages(completions: list[Completion], seeds: list[int]) -> tuple[StageUsage, ...]:
    return tuple(
        usage_of(completion, index, seed)
        for index, (completion, seed) in enumerate(zip(completions, seeds, strict=True))
    )
