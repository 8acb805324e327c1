"""An order under way: a task of its own, heard as an async iterator, ended by whoever stops listening.

Invariant: when the task ends, for whatever reason, its place is free and no engine call of it is left running.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from local_fusion.errors import LocalFusionError
from local_fusion.server.door.admission import Place
from local_fusion.server.orders.meter import Meter
from local_fusion.server.orders.order import Hear, Heard, Reply

_END_S = 1.0
Work = Callable[[Hear], Awaitable[Reply]]


class Live:
    """Runs `work` at once. Iterate it for what is heard and, last, the Reply; errors are raised there."""

    def __init__(self, work: Work, place: Place | None = None, meter: Meter | None = None) -> None:
        """`meter`: the engines of the work, for what is charged where it does not end well."""
        self._meter = meter
        self._heard: asyncio.Queue[Heard | None] = asyncio.Queue()
        self._place = place
        self._evicted: LocalFusionError | None = None
        if place is not None:
            place.on_evict = self._evict
        self._anything = asyncio.Event()
        self._task = asyncio.ensure_future(work(self._hear))
        self._task.add_done_callback(self._ended)  # not `finally`: a task may be cancelled before it begins

    async def __aiter__(self) -> AsyncIterator[Heard | Reply]:
        while (item := await self._heard.get()) is not None:
            yield item
        yield await self.reply()

    async def begun(self, within_s: float) -> None:
        """Wait until something is heard, `within_s` at most. Raises the error of work that failed before, so that
        it can still be told by a status. Cancelling this ends the work."""
        waiting = asyncio.ensure_future(self._anything.wait())
        try:
            await asyncio.wait([waiting, self._task], timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            waiting.cancel()
        if not self._anything.is_set() and self._task.done():
            await self.reply()

    async def reply(self) -> Reply:
        """Wait for the end. Cancelling this ends the work."""
        try:
            return await self._task
        except asyncio.CancelledError:
            self.close()
            if self._evicted is not None:
                raise self._evicted from None
            raise

    def close(self) -> None:
        """End the work, where it has not ended: every engine call of it is aborted."""
        self._task.cancel()

    async def ended(self) -> None:
        """End it, and wait a moment until it has: what it has cost is known then."""
        self.close()
        await asyncio.wait([self._task], timeout=_END_S)

    def _hear(self, item: Heard) -> None:
        self._heard.put_nowait(item)
        self._anything.set()

    def _ended(self, task: asyncio.Future[Reply]) -> None:
        """Say what came of it, free the place, end the iteration."""
        if self._place is not None:
            costs = () if self._meter is None else self._meter.costs
            if task.cancelled():
                self._place.failed(self._evicted or asyncio.CancelledError(), costs)
            elif (problem := task.exception()) is not None:
                self._place.failed(problem, costs)
            else:
                self._place.settle(task.result())
            self._place.leave()
            self._place.on_evict = None  # the two would keep each other alive until the garbage collector comes
        self._heard.put_nowait(None)

    def _evict(self, problem: LocalFusionError) -> None:
        """The server ends: whoever listens hears of it as of any other error."""
        self._evicted = problem
        self._task.cancel()
