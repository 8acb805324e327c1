"""Models that take turns: every call of a panel and its judge completes, in few swaps, one model awake at a time."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from cluster_calls import OpenFleet, call, until

from local_fusion.cluster.state import HostState
from local_fusion.errors import EngineDied

pytestmark = pytest.mark.ray

TEXT = """
models:
  one: {engine: scripted}
  two: {engine: scripted}
  three: {engine: scripted, replicas: 2}
  judge: {engine: scripted}
runtime: {turns: true}
"""
AWAKE = ("ready", "not_ready")


async def test_a_panel_and_its_judge_take_turns(open_fleet: OpenFleet):
    rows, panel = 40, ("one", "two", "three")
    states: dict[tuple[str, int], str] = {}
    together: list[set[str]] = []

    def listen(state: HostState) -> None:
        states[state.model, state.replica] = state.state
        together.append({model for (model, _), now in states.items() if now in AWAKE})

    async with open_fleet(TEXT, listen) as fleet:
        swaps_before = fleet.swaps

        async def row(number: int) -> str:
            answers = await asyncio.gather(*(fleet[name].generate(call(f"{number}/{name}", number)) for name in panel))
            assert [answer.model for answer in answers] == list(panel)
            for stage in ("analyse", "write", "guard"):
                judged = await fleet["judge"].generate(call(f"{number}/judge/{stage}", number))
            return judged.call_id

        done = await asyncio.wait_for(asyncio.gather(*(row(number) for number in range(rows))), 120)
        assert done == [f"{number}/judge/guard" for number in range(rows)]
        # Four models and one visit each would be 3 swaps; rows x models would be 160.
        assert 3 <= fleet.swaps - swaps_before <= 12
        assert max(len(models) for models in together) == 1


async def test_a_host_that_dies_asleep_is_started_again_when_its_turn_comes(open_fleet: OpenFleet):
    text = "models: {a: {engine: scripted}, b: {engine: scripted}}\nruntime: {turns: true}"
    async with open_fleet(text) as fleet:
        asleep = next(state for state in fleet.snapshot() if state.model == "b")
        assert asleep.state == "asleep"
        os.kill(asleep.pid, signal.SIGKILL)
        await asyncio.wait_for(fleet["a"].generate(call("x")), 30)
        assert (await asyncio.wait_for(fleet["b"].generate(call("y")), 60)).model == "b"
        assert (await asyncio.wait_for(fleet["a"].generate(call("z")), 60)).model == "a"
        assert [state.restarts for state in fleet.snapshot()] == [0, 1]


async def test_a_model_that_cannot_be_woken_fails_its_calls_and_no_other(open_fleet: OpenFleet):
    text = "models: {a: {engine: scripted}, b: {engine: scripted, restarts: 0}}\nruntime: {turns: true}"
    async with open_fleet(text) as fleet:
        os.kill(next(state.pid for state in fleet.snapshot() if state.model == "b"), signal.SIGKILL)
        with pytest.raises(EngineDied):
            await asyncio.wait_for(fleet["b"].generate(call("x")), 60)
        assert (await asyncio.wait_for(fleet["a"].generate(call("y")), 60)).model == "a"
        await until(lambda: fleet.snapshot()[0].in_flight == 0)
