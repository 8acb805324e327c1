"""Whose document is read next: a few at once in all, and never all of them for one key.

Invariants: what several requests of a key wait for is read once; a reading that nobody waits for any more is cancelled,
and its child process with it. A key waits in its own line before it stands in the common one, where each key has one
place, so that the common one is served in turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from local_fusion.server.problems import Overloaded

READERS = 2
MOST_READINGS = 16
"""Distinct documents of one key that requests may wait for at once."""
T = TypeVar("T")


@dataclass(slots=True)
class _Reading(Generic[T]):
    task: asyncio.Task[T]
    waiting: int = 0


class Readers(Generic[T]):
    """Readings under way, by key and by what is read."""

    def __init__(self, at_once: int = READERS) -> None:
        self._all = asyncio.Semaphore(at_once)
        self._at_once_each = max(1, at_once - 1)
        self._each: dict[str, asyncio.Semaphore] = {}
        self._readings: dict[tuple[str, str], _Reading[T]] = {}

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Wait for a reader."""
        own = self._each.setdefault(owner, asyncio.Semaphore(self._at_once_each))
        async with own, self._all:
            yield

    async def once(self, owner: str, key: str, read: Callable[[], Awaitable[T]], most: int | None = MOST_READINGS) -> T:
        """What `read` gives, shared with others of `owner` who wait for `key`. Raises Overloaded where `owner` has
        `most` others under way (None: it may wait for any number)."""
        place = owner, key
        reading = self._readings.get(place)
        if reading is None:
            if most is not None and sum(name == owner for name, _ in self._readings) >= most:
                raise Overloaded(f"{most} documents of this key are being read; try again later", 5)
            reading = self._readings[place] = _Reading(asyncio.ensure_future(_awaited(read)))
        reading.waiting += 1
        try:
            return await asyncio.shield(reading.task)
        finally:
            reading.waiting -= 1
            if not reading.waiting:
                if self._readings.get(place) is reading:
                    del self._readings[place]
                reading.task.cancel()


async def _awaited(read: Callable[[], Awaitable[Any]]) -> Any:
    return await read()
