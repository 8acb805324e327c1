"""A server over the session's real engines, on a port of this machine, for whoever speaks HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from local_fusion.config import Config, ServerSettings
from local_fusion.engine import Engines


@pytest.fixture(scope="session")
async def served(fleet: Engines, shipped: Config, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The server's address. It serves the shipped fusion and its members, without keys."""
    from local_fusion.server.app import make_app
    from local_fusion.server.door.connections import http_server
    from local_fusion.server.door.listening import bind, url_of
    from local_fusion.server.service import Service

    settings = ServerSettings(state=str(tmp_path_factory.mktemp("state")), fusions=("demo",))
    service = Service(replace(shipped, server=settings))
    service.attach(fleet)
    listening = bind("127.0.0.1", 0)
    http = http_server(make_app(service), None, 5.0)
    serving = asyncio.create_task(http.serve(sockets=[listening]))
    await service.opened()
    yield url_of(listening, tls=False).rstrip("/")
    service.stop()
    http.should_exit = True
    await serving
    await service.closed()
