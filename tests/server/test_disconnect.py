"""A client that goes away: every engine call of its request is aborted, seen in the engines' own counters."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from local_fusion.config import Config, parse_config
from tests.server.sockets import Served, chat_request, listening, question, until

HANGING = """
models:
  one: {engine: scripted, scripted: {hang_rate: 1}}
  two: {engine: scripted, scripted: {hang_rate: 1}}
  writer: {engine: scripted, scripted: {answers: ["These words take a long time at this speed."], tokens_per_s: 0.2}}
fusions:
  stuck: {panel: [one, two], mode: merge, member_timeout_s: 600}
  slow: {panel: [writer], judge: writer, mode: merge, guard: false, analysis: false}
default: stuck
runtime: {hosts: local}
server: {state: STATE, heartbeat_s: 0.05, in_flight: 2000, queue: 0}
"""


def hanging(tmp_path: Any) -> Config:
    return parse_config(HANGING.replace("STATE", str(tmp_path / "state")))


async def drop(served: Served, body: dict[str, Any], wait: asyncio.Event) -> None:
    """Ask, wait for a word to go, and go without a goodbye."""
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(chat_request(body))
    await writer.drain()
    await wait.wait()
    writer.transport.abort()


@pytest.mark.parametrize("model", ["stuck", "one", "slow"])
@pytest.mark.parametrize("stream", [True, False])
async def test_every_call_of_a_lost_request_is_aborted(tmp_path: Any, model: str, stream: bool) -> None:
    async with listening(hanging(tmp_path)) as served:
        go = asyncio.Event()
        client = asyncio.ensure_future(drop(served, question(model=model, stream=stream), go))
        await until(lambda: served.running == (2 if model == "stuck" else 1), 5)
        go.set()
        await client
        assert await until(lambda: served.running == 0, 5) < 1.0
        await until(lambda: served.service.admission.working == 0, 1)
        assert sum(engine.aborted for engine in served.each) >= 1


async def test_a_client_that_closes_its_side_in_order_counts_as_gone(tmp_path: Any) -> None:
    async with listening(hanging(tmp_path)) as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(chat_request(question(stream=True)))
        await until(lambda: served.running == 2, 5)
        writer.close()
        assert await until(lambda: served.running == 0, 5) < 1.0


async def test_a_thousand_dropped_connections_leave_nothing_running(tmp_path: Any) -> None:
    async with listening(hanging(tmp_path)) as served:
        for round_ in range(5):
            go = asyncio.Event()
            bodies = [question(stream=bool(place % 2), seed=place) for place in range(200)]
            clients = [asyncio.ensure_future(drop(served, body, go)) for body in bodies]
            if round_ % 2:  # every other round they go at any moment, some before the work has begun
                await asyncio.sleep(0.05)
            else:
                await until(lambda: served.running == 400, 20)
            go.set()
            await asyncio.gather(*clients)
        await until(lambda: served.running == 0 and served.service.admission.working == 0, 5)
        assert sum(engine.started for engine in served.each) >= 1200
        assert served.service.admission.waiting == 0
        assert (await served.service.engine("writer").check()).ready
