"""Clients that hang up on a server over the real engines: no call of theirs is left in any engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from local_fusion.config import Config, ServerSettings
from local_fusion.engine import Engines
from local_fusion.server.app import make_app
from local_fusion.server.door.connections import http_server
from local_fusion.server.door.listening import bind
from local_fusion.server.service import Service
from tests.server.sockets import chat_request, question, until

pytestmark = pytest.mark.vllm
DROPS = 1000


async def running(fleet: Engines, models: tuple[str, ...]) -> int:
    """Calls under way as the engines themselves count them."""
    healths = await asyncio.gather(*(fleet[model].check(30.0) for model in models))
    assert all(health.ready for health in healths)
    return sum(health.running + health.waiting for health in healths)


async def test_a_thousand_dropped_requests_leave_the_engines_idle(
    fleet: Engines, shipped: Config, tmp_path: Path
) -> None:
    service = Service(shipped, ServerSettings(fusions=("demo",), state=str(tmp_path / "state"), heartbeat_s=0.5))
    service.attach(fleet)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    http = http_server(make_app(service), None, 1)
    serving = asyncio.ensure_future(http.serve(sockets=[listener]))
    models = service.catalog.models

    async def drop(place: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        model = "demo" if place % 3 else models[0]
        body = question(model=model, stream=bool(place % 2), seed=place) | {"max_tokens": 1500, "ignore_eos": True}
        writer.write(chat_request(body))
        await writer.drain()
        await asyncio.sleep(0.2 + 0.01 * place)
        writer.transport.abort()

    try:
        await until(lambda: http.started, 30)
        began = asyncio.gather(*(drop(place) for place in range(DROPS)))
        await until(lambda: service.admission.working > 20, 30)
        assert await running(fleet, models) > 0
        await began
        await until(lambda: service.admission.working == 0, 5)
        for _ in range(20):
            if await running(fleet, models) == 0:
                break
            await asyncio.sleep(0.05)
        assert await running(fleet, models) == 0
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
            answer = await client.post("/v1/chat/completions", json=question(model="demo"))
            assert answer.status_code == 200
            assert (await client.get("/health/ready")).status_code == 200
    finally:
        http.should_exit = http.force_exit = True
        await serving
        await service.closed()
