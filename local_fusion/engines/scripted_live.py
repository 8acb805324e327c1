"""A scripted call under way: it waits, and can be woken. Without a delay it costs one cooperative yield, no timer."""

from __future__ import annotations

import asyncio


class Live:
    """`aborted` by its owner, wherever it waits; `future` is what it waits on, where it waits at all."""

    __slots__ = ("aborted", "future")

    def __init__(self) -> None:
        self.aborted = False
        self.future: asyncio.Future[None] | None = None

    def abort(self) -> None:
        """Wake it, and let it know."""
        self.aborted = True
        if self.future is not None:
            _wake(self.future)

    async def wait(self, seconds: float | None, left: float | None) -> bool:
        """Wait `seconds` (None: for ever), at most the `left` ones, or until aborted; whether time was too short."""
        late = left is not None and (seconds is None or seconds > left)
        wait = left if late else seconds
        if wait == 0.0:
            await asyncio.sleep(0)
        elif not self.aborted:
            await self._doze(wait)
        return late

    async def _doze(self, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        self.future = future = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _wake, future)
        try:
            await future
        finally:
            self.future = None
            if timer is not None:
                timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
