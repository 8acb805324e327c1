"""A host that neither sleeps nor wakes is given up after a time: the other models do not wait for it for ever."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from local_fusion.cluster import replica as replica_module
from local_fusion.cluster.placement import Resources
from local_fusion.cluster.plan import make_plan
from local_fusion.cluster.replica import Replica
from local_fusion.config import parse_config

CONFIG = "models: {m: {engine: scripted, restarts: 0, start_timeout_s: 0.05}}"


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no actor to kill; Ray would start a cluster to look for it."""
    monkeypatch.setattr(replica_module, "drop_actor", lambda actor, group: None)


class Stuck:
    """A method of an actor that never answers."""

    def remote(self, *_: Any) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()


def replica_of(**methods: Any) -> Replica:
    config = parse_config(CONFIG)
    plan = make_plan(config, ["m"], Resources()).hosts["m"][0]
    replica = Replica(plan, SimpleNamespace(folder=None), lambda _: None)  # type: ignore[arg-type]
    replica._actor = SimpleNamespace(**methods)
    return replica


async def test_a_host_that_does_not_wake_is_started_anew_or_given_up():
    replica = replica_of(wake=Stuck())
    replica.state = "asleep"
    await asyncio.wait_for(replica.wake(), 5)
    assert replica.state == "failed"
    assert "did not wake within 0.05 s (models.start_timeout_s)" in replica.detail


async def test_a_host_that_does_not_fall_asleep_is_ended_and_started_when_its_turn_comes():
    replica = replica_of(sleep=Stuck())
    replica.state = "ready"
    await asyncio.wait_for(replica.sleep(1), 5)
    assert (replica.state, replica._actor) == ("asleep", None)
    await asyncio.wait_for(replica.wake(), 5)
    assert replica.state == "failed"
