"""A server on scripted engines, spoken to in process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest

from local_fusion.config import Config, parse_config
from local_fusion.runtime import open_engines
from local_fusion.server.app import make_app
from local_fusion.server.door.keys import KeyRing
from local_fusion.server.service import Service

CONFIG = """
models:
  one: {engine: scripted, scripted: {answers: ["The answer is 4."]}}
  two: {engine: scripted, scripted: {answers: ["It is 4."]}}
  three: {engine: scripted, scripted: {answers: ["Five."]}}
  judge: {engine: scripted, scripted: {answers: ["The final answer is 4."], prefer: "4"}}
fusions:
  team: {panel: [one, two, three], judge: judge, mode: merge}
  picked: {panel: [one, two, three], judge: judge, mode: best-of}
  voted: {panel: [one, two, three], judge: judge, mode: vote}
default: team
runtime: {hosts: local}
server: {state: STATE, heartbeat_s: 0.2}
"""

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def make_config(tmp_path: Any, text: str = CONFIG) -> Config:
    return parse_config(text.replace("STATE", str(tmp_path / "state")))


@pytest.fixture
def config(tmp_path: Any) -> Config:
    return make_config(tmp_path)


@asynccontextmanager
async def serving(config: Config, keys: KeyRing | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server over `config`; `client.service` is the service behind it."""
    service = Service(config, keys=keys)
    async with open_engines(config, service.catalog.models) as engines:
        service.attach(engines)
        await service.opened()
        transport = httpx.ASGITransport(make_app(service))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://server", timeout=30) as client:
                client.service = service  # type: ignore[attr-defined]
                yield client
        finally:
            service.stop()
            await service.closed()


@pytest.fixture
async def client(config: Config) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(config) as made:
        yield made
