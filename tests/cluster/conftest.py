"""One private Ray session for all tests of this folder, and fleets of scripted engines on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cluster_calls import OpenFleet

from local_fusion.config import parse_config


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    from local_fusion.cluster.session import Session
    from local_fusion.config import RuntimeSettings

    session = Session.open(RuntimeSettings())
    yield
    session.close()


@pytest.fixture
def open_fleet(ray_session: None) -> OpenFleet:
    """`async with open_fleet(yaml) as fleet`: started, and closed at the end."""
    from local_fusion.cluster.fleet import Fleet

    @asynccontextmanager
    async def opened(text: str, listen: Any = None) -> AsyncIterator[Fleet]:
        config = parse_config(text)
        fleet = await Fleet.start(config, list(config.models), listen)
        try:
            yield fleet
        finally:
            await fleet.close()

    return opened
