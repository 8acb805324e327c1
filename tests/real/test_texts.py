"""Raw completions, scored prompts, tool calls in pieces and closed iterators, on the shipped models behind Ray."""

from __future__ import annotations

import asyncio
import json
from functools import reduce
from typing import Any

import pytest

from local_fusion.config import Config
from local_fusion.engine import Engines, join_deltas
from local_fusion.types import Call, Message, Sampling, TextCall, ToolDelta

pytestmark = pytest.mark.vllm
ASK = (Message("user", "Reverse the word 'planet'."),)
NAMED = {"type": "function", "function": {"name": "weigh"}}
TOOL = {
    **NAMED,
    "function": {
        "name": "weigh",
        "parameters": {
            "type": "object",
            "properties": {"what": {"type": "string", "pattern": "^[a-z]{30}$"}},
            "required": ["what"],
            "additionalProperties": False,
        },
    },
}
GREEDY = Sampling(6, 0.0, ignore_eos=True)


async def parts_of(stream: Any) -> list[Any]:
    return [part async for part in stream]


async def test_a_continuation_is_scored_as_it_was_generated(fleet: Engines, shipped: Config) -> None:
    engine = fleet[shipped.fusion("demo").panel[0].model]
    ids = tuple(await engine.tokenize("The word is"))
    assert await engine.detokenize(ids) == "The word is"
    parts = await parts_of(engine.complete(TextCall("t", ids, GREEDY, 1, logprobs=1, stream=True)))
    said, joined = parts[-1], reduce(join_deltas, parts[:-1])
    assert (joined.text, joined.logprobs) == (said.text, said.logprobs)
    asked = TextCall("e", ids + said.token_ids, Sampling(0), 1, logprobs=1, echo=True)
    (echoed,) = await parts_of(engine.complete(asked))
    scored = echoed.prompt_logprobs[len(ids) :]
    assert [entry.logprob for entry in scored] == pytest.approx([entry.logprob for entry in said.logprobs], abs=0.05)
    assert [entry.top[0][0] for entry in scored] == [entry.token for entry in scored]


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
async def test_a_forced_tool_call_streams_in_pieces(fleet: Engines, shipped: Config, choice: Any) -> None:
    engine = fleet[shipped.fusion("demo").panel[0].model]
    asked = Call("f", ASK, Sampling(300), 1, tools=(TOOL,), tool_choice=choice, stream=True)
    parts = await parts_of(engine.stream(asked))
    last = parts[-1]
    # Held to an array of calls, a weak model may go on calling until it is cut.
    assert last.finish_reason == "tool_calls" or choice == "required"
    assert sum(bool(part.tools) for part in parts[:-1]) > 3
    assert reduce(join_deltas, parts[:-1]).tools == tuple(
        ToolDelta(n, one.id, one.name, one.arguments) for n, one in enumerate(last.tool_calls)
    )
    assert len(json.loads(last.tool_calls[0].arguments)["what"]) == 30


@pytest.mark.parametrize("kind", ["stream", "complete"])
async def test_a_closed_iterator_is_gone_from_the_engine_within_a_second(
    fleet: Engines, shipped: Config, kind: str
) -> None:
    engine = fleet[shipped.fusion("demo").panel[0].model]
    long = Sampling(1500, 1.0, ignore_eos=True)
    stream: Any = (
        engine.stream(Call("s", ASK, long, 1, stream=True))
        if kind == "stream"
        else engine.complete(TextCall("c", "Once", long, 1, stream=True))
    )
    await anext(stream)
    assert await engine.count_running() == 1
    await stream.aclose()
    async with asyncio.timeout(1.0):
        while await engine.count_running():  # noqa: ASYNC110 (it happens in another process)
            await asyncio.sleep(0.02)
