"""Raw completions, tool calls in pieces, token ids and counts through Ray are what the engine itself gives."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import reduce
from typing import Any

import pytest
from cluster_calls import OpenFleet, call, until

from local_fusion.config.schema import ScriptedSettings
from local_fusion.engine import join_deltas
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.errors import CallError
from local_fusion.types import Completion, Delta, Message, Sampling, TextCall, TextCompletion, ToolDelta

pytestmark = pytest.mark.ray
TOOL = {
    "type": "function",
    "function": {
        "name": "weigh",
        "parameters": {
            "type": "object",
            "properties": {"what": {"type": "string", "minLength": 60}},
            "required": ["what"],
        },
    },
}


def text_call(prompt: Any = "one two three", **fields: Any) -> TextCall:
    return TextCall(**({"id": "t", "prompt": prompt, "sampling": Sampling(), "seed": 1} | fields))


async def parts_of(stream: Any) -> tuple[Delta, Any]:
    parts = [part async for part in stream]
    return reduce(join_deltas, parts[:-1], Delta()), parts[-1]


async def test_the_same_as_a_local_engine(open_fleet: OpenFleet):
    local = ScriptedEngine("m", ScriptedSettings())
    async with open_fleet("models: {m: {engine: scripted}}") as fleet:
        engine = fleet["m"]
        for asked in (
            text_call(stream=True, logprobs=2),
            text_call(echo=True, logprobs=1, sampling=Sampling(0)),
            text_call((104, 105), echo=True, logprobs=0),
        ):
            (here, here_last), (there, there_last) = (
                await parts_of(local.complete(asked)),
                await parts_of(engine.complete(asked)),
            )
            assert isinstance(there_last, TextCompletion)
            assert (there.text, len(there.logprobs)) == (here.text, len(here.logprobs))
            for name in ("text", "finish_reason", "tokens", "logprobs", "prompt_logprobs", "prompt_token_ids"):
                assert getattr(there_last, name) == getattr(here_last, name), name
        asked = call("tools", 3, tools=(TOOL,), tool_choice="required", logprobs=1)
        joined, last = await parts_of(engine.stream(asked))
        assert isinstance(last, Completion)
        assert joined.tools == tuple(ToolDelta(0, t.id, t.name, t.arguments) for t in last.tool_calls)
        assert last.tool_calls == (await local.generate(asked)).tool_calls
        said = await engine.generate(call("scored", 5, logprobs=2))
        assert [entry.token for entry in said.logprobs] == [
            entry.token for entry in (await local.generate(call("scored", 5, logprobs=2))).logprobs
        ]
        ids = await engine.tokenize("naïve 🦊 words")
        assert await engine.detokenize(ids) == "naïve 🦊 words"
        assert len(await engine.tokenize((Message("user", "one two"),))) == 2
        with pytest.raises(CallError, match="no token 77777") as caught:
            await engine.detokenize([77777])
        assert caught.value.reason == "bad_request"
        with pytest.raises(CallError, match="no token 77777"):
            await parts_of(engine.complete(text_call((77777,))))


async def test_closing_an_iterator_stops_the_call_in_the_host(open_fleet: OpenFleet):
    text = "models: {m: {engine: scripted, scripted: {answers: ['a b c d e f g h'], tokens_per_s: 4}}}"
    async with open_fleet(text) as fleet:
        engine = fleet["m"]
        streams = [engine.stream(call("s")), engine.complete(text_call(stream=True))]
        await asyncio.gather(*(anext(stream) for stream in streams))
        assert await engine.count_running() == 2
        for stream in streams:
            await stream.aclose()
        async with asyncio.timeout(1.0):
            while await engine.count_running():  # noqa: ASYNC110 (it happens in another process)
                await asyncio.sleep(0.02)
        assert fleet.snapshot()[0].in_flight == 0


async def test_tool_calls_and_completions_go_on_after_the_host_died(open_fleet: OpenFleet):
    text = "models: {m: {engine: scripted, scripted: {answers: ['one two three four five six'], tokens_per_s: 8}}}"
    async with open_fleet(text) as fleet:
        for asked in (
            fleet["m"].stream(call("s", tools=(TOOL,), tool_choice="required")),
            fleet["m"].complete(text_call(stream=True, logprobs=1)),
        ):
            parts: list[Any] = []
            async for part in asked:
                parts.append(part)
                if len(parts) == 3:
                    os.kill(fleet.snapshot()[0].pid, signal.SIGKILL)
            joined, last = reduce(join_deltas, parts[:-1]), parts[-1]
            if isinstance(last, TextCompletion):
                assert (joined.text, joined.logprobs) == (last.text, last.logprobs)
            else:
                assert joined.tools == tuple(ToolDelta(0, t.id, t.name, t.arguments) for t in last.tool_calls)
            await until(lambda: fleet.snapshot()[0].state == "ready")
        assert fleet.snapshot()[0].restarts == 2
