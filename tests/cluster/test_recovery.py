"""Hosts die and hang; calls do not get lost."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import pytest
from cluster_calls import OpenFleet, call, until

from local_fusion.errors import EngineDied
from local_fusion.types import Completion, Message

pytestmark = pytest.mark.ray


async def test_a_crashed_host_is_restarted_and_its_calls_sent_again_under_their_ids(
    open_fleet: OpenFleet, tmp_path: Path
):
    text = f"""
models:
  m:
    engine: scripted
    in_flight: 16
    scripted: {{delay_s: 0.01, crash_after: 30, crash_once_file: {tmp_path}/crashed}}
"""
    async with open_fleet(text) as fleet:
        completions = await asyncio.gather(*(fleet["m"].generate(call(f"c{n}", n)) for n in range(60)))
        assert [completion.call_id for completion in completions] == [f"c{n}" for n in range(60)]
        assert fleet.snapshot()[0].restarts == 1
    assert (tmp_path / "crashed").exists()


async def test_calls_of_a_killed_host_go_to_the_other(open_fleet: OpenFleet):
    text = "models: {m: {engine: scripted, replicas: 2, in_flight: 8, scripted: {delay_s: 0.5}}}"
    async with open_fleet(text) as fleet:
        running = asyncio.gather(*(fleet["m"].generate(call(f"c{n}", n)) for n in range(16)))
        await asyncio.sleep(0.2)
        before = fleet.snapshot()
        assert [state.in_flight for state in before] == [8, 8]
        os.kill(before[0].pid, signal.SIGKILL)
        completions = await asyncio.wait_for(running, 60)
        assert [completion.call_id for completion in completions] == [f"c{n}" for n in range(16)]
        await all_ready(fleet)
        after = fleet.snapshot()
        assert [state.restarts for state in after] == [1, 0]
        assert after[0].pid != before[0].pid
        assert after[1].pid == before[1].pid


@pytest.mark.parametrize("direct", ["true", "false"])
async def test_either_way_carries_answers_streams_questions_and_deaths(open_fleet: OpenFleet, direct: str):
    text = f"""
models: {{m: {{engine: scripted, in_flight: 64, scripted: {{answers: ["one two three"], delay_s: 0.02}}}}}}
runtime: {{direct: {direct}}}
"""
    async with open_fleet(text) as fleet:
        engine = fleet["m"]
        assert await engine.count_tokens([[Message("user", "one two")]]) != []
        pieces = [piece async for piece in engine.stream(call("s"))]
        assert "".join(piece.text for piece in pieces[:-1]) == "one two three"
        running = asyncio.gather(*(engine.generate(call(f"c{n}", n)) for n in range(200)))
        await asyncio.sleep(0.03)
        os.kill(fleet.snapshot()[0].pid, signal.SIGKILL)
        completions = await asyncio.wait_for(running, 60)
        assert [completion.call_id for completion in completions] == [f"c{n}" for n in range(200)]
        assert fleet.snapshot()[0].restarts == 1
        waiting = asyncio.create_task(engine.generate(call("gone")))
        await asyncio.sleep(0.005)
        waiting.cancel()
        await until(lambda: fleet.snapshot()[0].in_flight == 0)


async def test_a_stream_goes_on_where_it_was(open_fleet: OpenFleet):
    text = """
models: {m: {engine: scripted, scripted: {answers: ["one two three four five six seven eight"], tokens_per_s: 8}}}
"""
    async with open_fleet(text) as fleet:
        pieces = []
        async for piece in fleet["m"].stream(call("s")):
            if not pieces:
                os.kill(fleet.snapshot()[0].pid, signal.SIGKILL)
            pieces.append(piece)
        assert isinstance(pieces[-1], Completion)
        assert "".join(piece.text for piece in pieces[:-1]) == "one two three four five six seven eight"
        assert fleet.snapshot()[0].restarts == 1


async def test_restarts_exhausted_fail_at_once(open_fleet: OpenFleet):
    text = "models: {m: {engine: scripted, restarts: 0, in_flight: 1, scripted: {delay_s: 100}}}"
    async with open_fleet(text) as fleet:
        tasks = [asyncio.create_task(fleet["m"].generate(call(f"c{n}"))) for n in range(3)]
        await asyncio.sleep(0.1)
        begun = monotonic()
        os.kill(fleet.snapshot()[0].pid, signal.SIGKILL)
        for task in tasks:
            with pytest.raises(EngineDied, match=r"none of its hosts is left.*models\.restarts"):
                await asyncio.wait_for(task, 20)
        with pytest.raises(EngineDied):
            await fleet["m"].generate(call("late"))
        assert monotonic() - begun < 20
        assert fleet.snapshot()[0].state == "failed"
        assert not (await fleet["m"].check()).ready


async def test_a_call_that_kills_every_host_fails_after_its_retries(open_fleet: OpenFleet):
    text = "models: {m: {engine: scripted, call_retries: 1, restarts: 5, scripted: {crash_after: 1}}}"
    async with open_fleet(text) as fleet:
        with pytest.raises(EngineDied, match="call_retries"):
            await asyncio.wait_for(fleet["m"].generate(call("poison")), 60)


async def test_a_hung_host_is_found_replaced_and_its_calls_answered(open_fleet: OpenFleet):
    text = """
models: {m: {engine: scripted, replicas: 2, in_flight: 8, scripted: {delay_s: 0.1}}}
runtime: {probe_every_s: 0.3, probe_timeout_s: 1}
"""
    async with open_fleet(text) as fleet:
        hung = fleet.snapshot()[0].pid
        os.kill(hung, signal.SIGSTOP)
        completions = await asyncio.wait_for(
            asyncio.gather(*(fleet["m"].generate(call(f"c{n}", n)) for n in range(40))), 60
        )
        assert len(completions) == 40
        await all_ready(fleet)
        assert fleet.snapshot()[0].restarts == 1
        assert fleet.snapshot()[0].pid != hung
        await until(lambda: is_gone(hung))


async def test_a_busy_host_is_not_taken_for_a_hung_one(open_fleet: OpenFleet):
    text = """
models: {m: {engine: scripted, in_flight: 512, scripted: {delay_s: 0.05}}}
runtime: {probe_every_s: 0.05, probe_timeout_s: 2}
"""
    async with open_fleet(text) as fleet:
        await asyncio.gather(*(fleet["m"].generate(call(f"c{n}", n)) for n in range(5000)))
        assert fleet.snapshot()[0].restarts == 0


async def all_ready(fleet: Any) -> None:
    await until(lambda: all(state.state == "ready" for state in fleet.snapshot()))


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
