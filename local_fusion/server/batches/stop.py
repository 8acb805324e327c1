"""Why a batch should stop, said once: everybody at work on it sees the same first reason."""

from __future__ import annotations

import asyncio
from typing import Literal

Reason = Literal["cancelled", "expired", "closing"]


class Stop:
    """`event` is set once there is a reason; later reasons change nothing. `closing` is set when the server ends."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.closing = asyncio.Event()
        self.reason: Reason | None = None

    def set(self, reason: Reason) -> None:
        """Stop, for this reason unless there was one before."""
        if reason == "closing":
            self.closing.set()
        if self.reason is None:
            self.reason = reason
            self.event.set()

    async def pause(self, seconds: float) -> bool:
        """Wait so long; False, and earlier, where the server ends."""
        try:
            async with asyncio.timeout(seconds):
                await self.closing.wait()
        except TimeoutError:
            return True
        return False

    async def heard(self, seconds: float) -> bool:
        """Wait so long; True, and earlier, where there is a reason."""
        try:
            async with asyncio.timeout(seconds):
                await self.event.wait()
        except TimeoutError:
            return False
        return True

    async def acquired(self, slots: asyncio.Semaphore) -> bool:
        """Wait for a slot, and have it; or, False, there was a reason first."""
        take = asyncio.ensure_future(slots.acquire())
        halt = asyncio.ensure_future(self.event.wait())
        try:
            await asyncio.wait([take, halt], return_when=asyncio.FIRST_COMPLETED)
        finally:
            halt.cancel()
            if not take.done():
                take.cancel()
            elif self.event.is_set() and not take.cancelled():
                slots.release()
        return not self.event.is_set()
