"""A fleet of scripted hosts does what a local engine does: complete, stream, read labels, count, abort, time out."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from cluster_calls import OpenFleet, call, until

from local_fusion.config.schema import ScriptedSettings
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.errors import CallAborted, CallError, CallTimeout, ContextExceeded, ModelFilesError, StartError
from local_fusion.types import Completion, Delta, LabelCall, Message

pytestmark = pytest.mark.ray


async def test_the_same_as_a_local_engine(open_fleet: OpenFleet):
    local = ScriptedEngine("m", ScriptedSettings())
    labels = LabelCall("l", (Message("user", "which?"),), ("A", "B", "C"))
    async with open_fleet("models: {m: {engine: scripted}}") as fleet:
        assert "m" in fleet
        assert "other" not in fleet
        engine = fleet["m"]
        for seed in range(5):
            there, here = await engine.generate(call(f"c{seed}", seed)), await local.generate(call(f"c{seed}", seed))
            assert (there.text, there.tokens, there.logprob) == (here.text, here.tokens, here.logprob)
        assert (await engine.label_read(labels)).logprobs == (await local.label_read(labels)).logprobs
        pieces = [piece async for piece in engine.stream(call("s", 3))]
        assert isinstance(pieces[-1], Completion)
        assert all(isinstance(piece, Delta) for piece in pieces[:-1])
        assert "".join(piece.text for piece in pieces[:-1]) == pieces[-1].text
        assert await engine.count_tokens([[Message("user", "one two three")], [Message("user", "one")]]) == [3, 1]
        assert await engine.info() == await local.info()
        assert (await engine.check()).ready


async def test_many_calls_go_to_all_replicas_and_each_comes_back_once(open_fleet: OpenFleet):
    seen: list[str] = []
    text = "models: {m: {engine: scripted, replicas: 2, in_flight: 40, scripted: {delay_s: 0.2}}}"
    async with open_fleet(text, lambda state: seen.append(state.state)) as fleet:
        running = asyncio.gather(*(fleet["m"].generate(call(f"c{n}", n)) for n in range(400)))
        await until(lambda: [state.in_flight for state in fleet.snapshot()] == [40, 40])
        assert fleet.snapshot()[0].waiting > 0
        completions = await running
        assert [completion.call_id for completion in completions] == [f"c{n}" for n in range(400)]
        assert {state.state for state in fleet.snapshot()} == {"ready"}
    assert seen.count("closed") == 2


async def test_errors_keep_their_type_and_reason(open_fleet: OpenFleet):
    text = """
models:
  small: {engine: scripted, scripted: {context: 16}}
  bad: {engine: scripted, scripted: {fail_rate: 1}}
"""
    async with open_fleet(text) as fleet:
        with pytest.raises(ContextExceeded) as raised:
            await fleet["small"].generate(replace(call("long"), messages=(Message("user", "word " * 50),)))
        assert raised.value.reason == "context_exceeded"
        with pytest.raises(CallError, match="scripted failure"):
            await fleet["bad"].generate(call("x"))


async def test_a_call_that_never_ends_times_out(open_fleet: OpenFleet):
    async with open_fleet("models: {m: {engine: scripted, scripted: {hang_rate: 1}}}") as fleet:
        with pytest.raises(CallTimeout):
            await fleet["m"].generate(call("c", timeout_s=0.2))
        with pytest.raises(CallTimeout):
            async for _ in fleet["m"].stream(call("s", timeout_s=0.2)):
                pass


async def test_cancelling_and_aborting_reach_the_engine(open_fleet: OpenFleet):
    text = """
models: {m: {engine: scripted, in_flight: 3, scripted: {delay_s: 100}}}
runtime: {probe_every_s: 0.1, probe_timeout_s: 5}
"""
    async with open_fleet(text) as fleet:
        engine = fleet["m"]
        cancelled, aborted, streamed, waiting = (
            asyncio.create_task(engine.generate(call("a"))),
            asyncio.create_task(engine.generate(call("b"))),
            asyncio.create_task(anext(engine.stream(call("c")))),
            asyncio.create_task(engine.generate(call("d", priority=20))),
        )
        await until(lambda: fleet.snapshot()[0].running == 3)
        await engine.abort(["b", "d", "unknown"])
        for task in (aborted, waiting):
            with pytest.raises(CallAborted):
                await asyncio.wait_for(task, 2)
        cancelled.cancel()
        streamed.cancel()
        await until(lambda: fleet.snapshot()[0].running == 0)
        assert fleet.snapshot()[0].in_flight == 0


async def test_the_real_cause_of_a_failed_start(open_fleet: OpenFleet, tmp_path: object):
    with pytest.raises(ModelFilesError, match="nowhere"):
        async with open_fleet("models: {good: {engine: scripted}, m: {path: /nowhere/at/all, gpus: 0}}"):
            pass
    with pytest.raises(StartError, match="m: its process died while it started"):
        async with open_fleet("models: {good: {engine: scripted}, m: {engine: scripted, scripted: {crash_after: 0}}}"):
            pass
    with pytest.raises(StartError, match="not ready within"):
        async with open_fleet("models: {m: {engine: scripted, start_timeout_s: 0.5, scripted: {start_s: 60}}}"):
            pass
    with pytest.raises(StartError, match="Ray sees"):
        async with open_fleet("models: {m: {engine: scripted, gpus: 99}}"):
            pass


async def test_closing_fails_what_is_under_way(open_fleet: OpenFleet):
    async with open_fleet("models: {m: {engine: scripted, in_flight: 1, scripted: {delay_s: 100}}}") as fleet:
        tasks = [asyncio.create_task(fleet["m"].generate(call(f"c{n}"))) for n in range(2)]
        await until(lambda: fleet.snapshot()[0].waiting == 1)
    for task in tasks:
        with pytest.raises(CallError):
            await asyncio.wait_for(task, 5)
