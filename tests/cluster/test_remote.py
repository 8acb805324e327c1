"""One engine out of several replicas, without Ray: what is asked of those that are up, asleep or stuck."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from local_fusion.cluster.line import Line
from local_fusion.cluster.mailbox import HostLost
from local_fusion.cluster.remote import RemoteEngine
from local_fusion.cluster.state import HostState, State
from local_fusion.config import ModelSettings
from local_fusion.errors import EngineDied


class Double:
    """A replica, as `RemoteEngine` and `Line` see it."""

    def __init__(self, state: State = "ready", stuck: bool = False, dies: int = 0) -> None:
        self.state = state
        self.stuck = stuck
        self.dies = dies
        self.taken = 0
        self.taken_when_asked: list[int] = []
        self.running = 0
        self.probing = 0

    @property
    def free(self) -> int:
        return 4 - self.taken if self.state == "ready" else 0

    def view(self) -> HostState:
        return HostState("m", 0, self.state)

    async def probe(self) -> bool:
        self.probing += 1
        try:
            if self.stuck:
                await asyncio.Event().wait()
            return True
        finally:
            self.probing -= 1

    async def ask(self, question: str, *packed: bytes) -> Any:
        self.taken_when_asked.append(self.taken)
        if self.dies:
            self.dies -= 1
            raise HostLost("gone")
        return [7]


def engine(*replicas: Any, retries: int = 2) -> tuple[RemoteEngine, Line[Any]]:
    line: Line[Any] = Line(replicas)
    return RemoteEngine("m", ModelSettings(engine="scripted", call_retries=retries), replicas, line), line


async def test_a_stuck_replica_does_not_hide_one_that_answers():
    stuck, sound = Double(stuck=True), Double()
    health = await asyncio.wait_for(engine(stuck, sound)[0].check(5.0), 2.0)
    assert health.ready
    assert stuck.probing == 0


async def test_where_every_replica_is_stuck_the_model_is_not_ready():
    stuck = Double(stuck=True)
    health = await engine(stuck)[0].check(0.05)
    assert not health.ready
    assert stuck.probing == 0


@pytest.mark.parametrize("retries", [0, 2])
async def test_a_question_waits_for_a_sleeping_model_and_keeps_it_awake(retries: int):
    sleeper = Double("asleep")
    remote, line = engine(sleeper, retries=retries)
    line.asleep = True
    asked = asyncio.create_task(remote.count_tokens([[]]))
    await asyncio.sleep(0)
    assert line.waiting == 1
    sleeper.state, line.asleep = "ready", False
    line.refresh()
    assert await asked == [7]
    assert sleeper.taken_when_asked == [1]
    assert sleeper.taken == 0


async def test_a_question_is_asked_again_as_often_as_a_call():
    assert await engine(Double(dies=2))[0].tokenize("x") == [7]
    with pytest.raises(EngineDied, match="its host died under tokenize"):
        await engine(Double(dies=3))[0].tokenize("x")
