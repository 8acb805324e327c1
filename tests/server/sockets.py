"""A server on a real socket of this machine, in the test's own loop; and clients that behave badly."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from local_fusion.config import Config
from local_fusion.engine import Engines
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.runtime import open_engines
from local_fusion.server.app import make_app
from local_fusion.server.door.connections import BoundedProtocol, http_server
from local_fusion.server.door.keys import KeyRing
from local_fusion.server.door.listening import bind
from local_fusion.server.service import Service


@dataclass
class Served:
    """A server that runs."""

    port: int
    service: Service
    engines: Engines

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def running(self) -> int:
        """Calls that the scripted engines themselves count as under way."""
        return sum(engine.running for engine in self.each)

    @property
    def each(self) -> list[ScriptedEngine]:
        found = [self.engines[model] for model in self.service.catalog.models]
        return [engine for engine in found if isinstance(engine, ScriptedEngine)]


@asynccontextmanager
async def listening(
    config: Config,
    keys: KeyRing | None = None,
    protocol: type[BoundedProtocol] = BoundedProtocol,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Served]:
    """Serve `config` on a free port of the loopback address."""
    service = Service(config, keys=keys)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with open_engines(config, service.catalog.models) as engines:
        service.attach(engines)
        await service.opened()
        http = http_server(make_app(service), tls, 1, protocol)
        task = asyncio.ensure_future(http.serve(sockets=[listener]))
        try:
            await until(lambda: http.started, 30)
            yield Served(port, service, engines)
        finally:
            http.should_exit = http.force_exit = True
            await task
            await service.closed()


def chat_request(body: dict[str, Any], headers: str = "") -> bytes:
    """The bytes of a chat completion request."""
    raw = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(raw)}\r\n\r\n".encode() + raw


def question(**more: Any) -> dict[str, Any]:
    """The smallest chat body, and more."""
    return {"messages": [{"role": "user", "content": "2+2?"}], **more}


async def until(true: Callable[[], bool], seconds: float) -> float:
    """Wait until `true()`; the seconds it took. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 (the engines' counters have no event)
            await asyncio.sleep(0.005)
    return loop.time() - began


async def exchange(port: int, raw: bytes, seconds: float = 10.0) -> bytes:
    """Send bytes, read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        await writer.drain()
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.close()
