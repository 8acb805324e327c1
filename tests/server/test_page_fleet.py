"""`/fleet.json`: engines in this process, a fleet of hosts, what a key may see, and the GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from local_fusion.cluster.state import HostState
from local_fusion.config.keys import add_key
from local_fusion.engine import Engine
from local_fusion.server.app import make_app
from local_fusion.server.door.keys import KeyRing
from local_fusion.server.service import Service
from local_fusion.server.watch.gpus import Gpu, GpuWatch, parse
from tests.server.conftest import make_config

MIB = 1024 * 1024


class Hosts:
    """Engines that can be watched, as the fleet's are."""

    swaps = 3
    swap_s = 4.56789

    def __getitem__(self, model: str) -> Engine:
        raise KeyError(model)

    def __contains__(self, model: object) -> bool:
        return False

    def snapshot(self) -> list[HostState]:
        return [
            HostState("one", 0, "ready", 2, 1, 2, 1, 4711, "node-a", 0.01, 30.0),
            HostState("judge", 0, "restarting", detail="the host died\nTraceback (most recent call last)"),
        ]


async def look(service: Service, **headers: str) -> dict[str, Any]:
    transport = httpx.ASGITransport(make_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        answer = await client.get("/fleet.json", headers=headers)
        assert answer.status_code == 200
        return dict(answer.json())


async def test_engines_of_this_process_are_shown_with_what_is_known(client: httpx.AsyncClient) -> None:
    body = (await client.get("/fleet.json")).json()
    assert (body["ready"], body["hosts"], body["turns"]) == (True, "local", None)
    assert [one["model"] for one in body["engines"]] == ["one", "two", "three", "judge"]
    first = body["engines"][0]
    assert (first["state"], first["running"], first["in_flight"]) == ("ready", 0, None)


async def test_it_answers_while_the_engines_start(tmp_path: Path) -> None:
    body = await look(Service(make_config(tmp_path)))
    assert body["ready"] is False
    assert {one["state"] for one in body["engines"]} == {"starting"}


async def test_a_fleet_tells_its_hosts_and_turns_but_no_process_and_no_traceback(tmp_path: Path) -> None:
    service = Service(make_config(tmp_path))
    service.attach(Hosts())
    body = await look(service)
    assert body["turns"] == {"swaps": 3, "swap_s": 4.568}
    one, judge = body["engines"]
    assert one == {
        "model": "one",
        "replica": 0,
        "state": "ready",
        "in_flight": 2,
        "waiting": 1,
        "running": 2,
        "restarts": 1,
        "node": "node-a",
        "last_probe_s": 0.01,
        "start_s": 30.0,
        "detail": "",
    }
    assert judge["detail"] == "the host died"


async def test_a_key_sees_the_engines_of_what_it_may_use(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    one, all_ = add_key(path, "one", ("one",)), add_key(path, "all")
    service = Service(make_config(tmp_path), keys=KeyRing(path))
    service.attach(Hosts())
    seen = await look(service, authorization=f"Bearer {one}")
    assert [engine["model"] for engine in seen["engines"]] == ["one"]
    everything = await look(service, authorization=f"Bearer {all_}")
    assert len(everything["engines"]) == 2


def test_lines_of_the_gpu_tool_are_read() -> None:
    printed = "0, NVIDIA H200, 1024, 143771, 97\n1, NVIDIA H200, 0, 143771, [N/A]\n2, odd, [N/A], [N/A], 3\nnonsense\n"
    assert parse(printed) == [
        Gpu(0, "NVIDIA H200", 1024 * MIB, 143771 * MIB, 0.97),
        Gpu(1, "NVIDIA H200", 0, 143771 * MIB, None),
    ]


@pytest.mark.parametrize(
    ("script", "count"),
    [("echo '0, GPU, 1, 2, 3' >> log; cat log", 1), ("exit 9", 0), ("echo 'no driver'; exit 1", 0)],
)
async def test_the_gpu_tool_is_asked_once_for_many(tmp_path: Path, script: str, count: int) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
    tool.chmod(0o755)
    watch = GpuWatch(str(tool))
    assert len(await watch.look()) == count
    assert len(await watch.look()) == count


async def test_without_the_tool_there_are_no_gpus() -> None:
    assert await GpuWatch("no-such-tool-here").look() == []
