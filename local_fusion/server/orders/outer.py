"""An outer model that may consult a fusion: it decides, reads what the panel said, and writes the final answer itself.

Invariants: the fusion runs once per request at most, a second call is told so; a fusion that fails leaves the outer
model answering alone; what the panel said reaches it as a tool's result, made harmless. Whatever a turn calls first
counts: the fusion, which is run here, or tools of the client, which end the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from local_fusion.engine import Engines
from local_fusion.errors import FusionError
from local_fusion.fusion.consult import consult
from local_fusion.fusion.events import Deltas, Listener
from local_fusion.fusion.fuse import fuse
from local_fusion.openai_api.tools import FUSION_FUNCTION
from local_fusion.server.orders.member import ask, call_of, said_of, usage_of
from local_fusion.server.orders.order import FusionBegan, FusionEnded, Hear, OuterOrder, Reply, Said, tool_pieces
from local_fusion.server.orders.tool_result import capped, error_of, result_of, told
from local_fusion.server.orders.turn import Speech, Turn
from local_fusion.types import Completion, Fused, Message, Request, StageUsage, Tokens, ToolCall

TURNS = 4
FUSION_TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": FUSION_FUNCTION,
        "description": (
            "Ask a panel of several models the user's question, as the conversation stands, and get their answers and "
            "an analysis of where they agree, contradict each other, and miss something. For hard, open or risky "
            "questions. It takes no arguments and can be called once."
        ),
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}


async def run_outer(engines: Engines, order: OuterOrder, hear: Hear, deltas: Deltas) -> Reply:
    """Run the outer model to its final answer. Raises CallError where it fails itself."""
    return await _Outer(engines, order, hear, deltas).run()


class _Outer:
    def __init__(self, engines: Engines, order: OuterOrder, hear: Hear, deltas: Deltas) -> None:
        self._engines = engines
        self._order = order
        self._member = order.member
        self._hear = hear
        self._deltas = deltas
        self._messages = list(order.member.messages)
        self._speech = Speech(hear if deltas else None)
        self._calls: list[StageUsage] = []
        self._fused: Fused | None = None
        self._failed: FusionEnded | None = None
        self._inner: tuple[StageUsage, ...] = ()
        self._asked = False

    async def run(self) -> Reply:
        completion = await self._first()
        while (calls := _fusion_calls(completion)) and len(self._calls) < TURNS:
            await self._answer(completion, calls)
            completion = await self._later(again=len(self._calls) < 2)
        return self._reply(completion)

    async def _first(self) -> Completion:
        """The turn in which it decides. A JSON schema would forbid it to call, so that turn is not held to it, and is
        done again, held, where it calls nothing."""
        schema = self._member.json_schema
        choice: Any = self._member.tool_choice or "auto"
        if self._order.forced:
            choice = {"type": "function", "function": {"name": FUSION_FUNCTION}}
        completion = await self._turn(True, choice, None, silent=schema is not None)
        if schema is not None and not completion.tool_calls:
            completion = await self._turn(False, None, schema)
        elif schema is not None and not _fusion_calls(completion):
            self._speech.say(Said(completion.text or "", "tool_calls"), tool_pieces(completion.tool_calls))
        return completion

    async def _later(self, again: bool) -> Completion:
        """A turn after the fusion. `again`: the tool is still offered, so that the turn shares the first one's prefix;
        a second call is answered with a refusal."""
        schema = self._member.json_schema
        offered = again and self._order.reads_calls and schema is None
        choice = "auto" if self._member.tools or offered else None
        return await self._turn(offered, choice, schema)

    async def _turn(
        self, fusion: bool, choice: Any, schema: Mapping[str, Any] | None, silent: bool = False
    ) -> Completion:
        tools = (*self._member.tools, FUSION_TOOL) if fusion else self._member.tools
        member = replace(
            self._member, messages=tuple(self._messages), tools=tools, tool_choice=choice, json_schema=schema
        )
        place = len(self._calls)
        call = replace(call_of(member, place, bool(self._deltas)), id=f"{member.id}/outer/{member.model}/{place}")
        turn = Turn(self._speech, FUSION_FUNCTION, silent)
        completion = await ask(self._engines, member.model, call, turn.tell if self._deltas else None)
        self._calls.append(usage_of(completion, place, call.seed))
        if not silent:
            self._speech.ended(completion)
        return completion

    async def _answer(self, completion: Completion, calls: tuple[ToolCall, ...]) -> None:
        """Put the turn that called the fusion, and what the fusion gave, into the conversation."""
        self._messages.append(Message("assistant", completion.text or "", tool_calls=calls))
        for call in calls:
            result = capped() if self._asked else await self._fuse()
            engine, room = self._engines[self._member.model], self._member.sampling.max_tokens
            text = await told(engine, self._messages, result, room)
            self._messages.append(Message("tool", text, tool_call_id=call.id))

    async def _fuse(self) -> dict[str, Any]:
        self._asked = True
        member, recipe = self._member, self._order.recipe
        request = Request(
            f"{member.id}/fusion", member.messages, member.seed, cache_salt=member.cache_salt, seed_name=""
        )
        listener = Listener(self._hear, self._deltas)
        self._hear(FusionBegan(recipe.name))
        try:
            work = fuse if self._order.whole else consult
            self._fused = await work(request, recipe, self._engines, listener)
        except FusionError as problem:
            self._inner = problem.calls
            self._failed = FusionEnded(None, problem.message, problem.code)
            self._hear(self._failed)
            return error_of(problem)
        self._inner = self._fused.receipt.calls
        self._hear(FusionEnded(self._fused))
        return result_of(self._fused)

    def _reply(self, completion: Completion) -> Reply:
        calls = tuple(call for call in completion.tool_calls if call.name != FUSION_FUNCTION)
        said = replace(
            said_of(completion),
            text=self._speech.text,
            reasoning=self._speech.reasoning or None,
            tool_calls=calls,
            finish_reason=_finish(completion, calls),
        )
        every = (*self._inner, *self._calls)
        tokens = sum((call.tokens for call in every), Tokens())
        return Reply(self._member.id, completion.model, (said,), tokens, self._fused, calls=every, failed=self._failed)


def _fusion_calls(completion: Completion) -> tuple[ToolCall, ...]:
    """The calls of the fusion, where the turn's first call is one."""
    calls = completion.tool_calls
    if not calls or calls[0].name != FUSION_FUNCTION:
        return ()
    return tuple(call for call in calls if call.name == FUSION_FUNCTION)


def _finish(completion: Completion, calls: tuple[ToolCall, ...]) -> Any:
    return "stop" if completion.finish_reason == "tool_calls" and not calls else completion.finish_reason
