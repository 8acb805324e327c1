"""Engines that measure a GPU they share start one after another, when those of known size are up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from local_fusion.cluster.fleet import Fleet
from local_fusion.cluster.placement import Resources
from local_fusion.cluster.plan import HostPlan, make_plan
from local_fusion.config import parse_config
from local_fusion.errors import StartError

CONFIG = """
models:
  measuring: {path: weights, gpus: 0.3}
  also-measuring: {path: weights, gpus: 0.3}
  sized: {path: weights, gpus: 0.2, vllm: {kv-cache-memory-bytes: 1000000}}
  whole: {path: weights, gpus: 1}
"""


class Replica:
    def __init__(self, plan: HostPlan, log: list[str], fails: bool) -> None:
        self.plan, self._log, self._fails = plan, log, fails

    async def start(self) -> None:
        self._log.append(f"{self.plan.model} begins")
        await asyncio.sleep(0.01)
        if self._fails:
            raise StartError(f"{self.plan.model} is broken")
        self._log.append(f"{self.plan.model} is up")


def fleet_of(log: list[str], broken: str = "") -> tuple[Fleet, tuple[str, ...]]:
    config = parse_config(CONFIG)
    plan = make_plan(config, list(config.models), Resources(gpus=2, node_gpus=2))
    fleet: Any = Fleet(None, None)  # type: ignore[arg-type]
    for name, hosts in plan.hosts.items():
        fleet._models[name] = SimpleNamespace(replicas=[Replica(host, log, name == broken) for host in hosts])
    return fleet, plan.groups[0]


async def test_those_that_measure_come_last_and_alone():
    log: list[str] = []
    fleet, names = fleet_of(log)
    await fleet._start_group(names)
    assert log.index("measuring begins") > log.index("sized is up")
    assert log.index("also-measuring begins") > log.index("measuring is up")
    assert log.index("whole begins") < log.index("sized is up")


async def test_one_that_is_broken_ends_the_start_with_its_own_error():
    for broken in ("sized", "measuring", "whole"):
        fleet, names = fleet_of([], broken)
        with pytest.raises(StartError, match=f"{broken} is broken"):
            await fleet._start_group(names)
