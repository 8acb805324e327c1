"""Calls for the tests of this folder, and waiting for what must come true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from local_fusion.types import Call, Message, Sampling

OpenFleet = Callable[..., Any]


def call(name: str, seed: int = 0, **changes: Any) -> Call:
    return Call(id=name, messages=(Message("user", "say something"),), sampling=Sampling(), seed=seed, **changes)


async def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 (what is waited for happens in another process)
            await asyncio.sleep(0.02)
