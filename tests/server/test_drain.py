"""The end of a server: no new requests, time for those under way, proper ends, then the engines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from local_fusion.config import parse_config
from local_fusion.errors import ConfigError
from local_fusion.server.door.listening import bind
from local_fusion.server.serve import Stop, serve
from local_fusion.server.service import Service
from tests.server.conftest import CONFIG
from tests.server.sockets import question, until

SLOW = CONFIG.replace('answers: ["The answer is 4."]', 'answers: ["The answer is 4."], delay_s: 0.5')
HUNG = CONFIG.replace('answers: ["The answer is 4."]', "hang_rate: 1").replace(
    "mode: merge}", "mode: merge, quorum: 3}"
)


class Running:
    def __init__(self, service: Service, port: int, stop: Stop, task: asyncio.Task[None], said: list[str]) -> None:
        self.service, self.stop, self.task, self.said = service, stop, task, said
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)


@asynccontextmanager
async def running(tmp_path: Path, text: str, drain_s: float) -> AsyncIterator[Running]:
    text = text.replace("heartbeat_s: 0.2", f"heartbeat_s: 0.2, drain_s: {drain_s}")
    service = Service(parse_config(text.replace("STATE", str(tmp_path / "state"))))
    listener, stop, said = bind("127.0.0.1", 0), Stop(), []  # type: ignore[var-annotated]
    port = listener.getsockname()[1]
    task = asyncio.ensure_future(serve(service, listener, None, stop, said.append, said.append))
    one = Running(service, port, stop, task, said)
    try:
        async with one.client:
            yield one
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_requests_under_way_end_and_new_ones_find_nobody(tmp_path: Path) -> None:
    async with running(tmp_path, SLOW, 20) as server:
        await until(lambda: bool(server.said), 10)
        assert server.said[-1].startswith("ready after")
        whole = asyncio.ensure_future(server.client.post("/v1/chat/completions", json=question()))
        streamed = asyncio.ensure_future(server.client.post("/v1/chat/completions", json=question(stream=True)))
        await until(lambda: server.service.admission.working == 2, 5)
        server.stop.heard()
        await asyncio.sleep(0.2)
        with pytest.raises(httpx.ConnectError):
            await server.client.get("/health/live")
        assert (await whole).status_code == 200
        assert (await streamed).text.endswith("data: [DONE]\n\n")
        await asyncio.wait_for(server.task, 5)
        assert not server.service.ready


@pytest.mark.parametrize("signals", [1, 2])
async def test_what_takes_too_long_ends_with_an_error_in_its_own_form(tmp_path: Path, signals: int) -> None:
    async with running(tmp_path, HUNG, 0.3 if signals == 1 else 600) as server:
        await until(lambda: bool(server.said), 10)
        engine = server.service.engine("one")
        whole = asyncio.ensure_future(server.client.post("/v1/chat/completions", json=question()))
        streamed = asyncio.ensure_future(server.client.post("/v1/chat/completions", json=question(stream=True)))
        await until(lambda: server.service.admission.working == 2, 5)
        for _ in range(signals):
            server.stop.heard()
        answer = await whole
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "shutting_down"
        assert answer.headers["x-should-retry"] == "false"
        events = [line for line in (await streamed).text.split("\n\n") if line.startswith("data: {")]
        assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "shutting_down"
        await asyncio.wait_for(server.task, 10)
        assert engine.running == 0  # type: ignore[attr-defined]


async def test_a_failed_start_ends_the_server_with_its_cause(tmp_path: Path) -> None:
    text = CONFIG.replace('three: {engine: scripted, scripted: {answers: ["Five."]}}', "three: {path: no/such/folder}")
    async with running(tmp_path, text, 5) as server:
        with pytest.raises(ConfigError, match="three"):
            await asyncio.wait_for(server.task, 10)


async def test_a_signal_during_the_start_ends_it(tmp_path: Path) -> None:
    text = CONFIG.replace('answers: ["The answer is 4."]', "start_s: 600")
    async with running(tmp_path, text, 600) as server:
        await until(lambda: bool(server.service), 1)
        await asyncio.sleep(0.3)
        assert (await server.client.get("/health/live")).status_code == 200
        assert (await server.client.get("/health/ready")).status_code == 503
        server.stop.heard()
        await asyncio.wait_for(server.task, 5)


async def test_hooks_run_between_requests_and_engines(tmp_path: Path) -> None:
    heard: list[str] = []

    async with running(tmp_path, CONFIG, 5) as server:

        async def opened() -> None:
            heard.append(f"open {server.service.ready}")

        async def closed() -> None:
            heard.append(f"close {(await server.service.engine('one').check()).ready}")

        server.service.on_open.append(opened)
        server.service.on_close.append(closed)
        server.service.on_stop.append(lambda: heard.append("stop"))
        await until(lambda: len(heard) == 1, 5)
        server.stop.heard()
        await asyncio.wait_for(server.task, 5)
        assert heard == ["open True", "stop", "close True"]
