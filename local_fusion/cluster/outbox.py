"""Events of a host that wait for its driver.

Invariant: an event stays until the reader names it as seen, so a lost reply loses nothing; a reader that comes late
gets all that is ready at once.
"""

from __future__ import annotations

import asyncio

from local_fusion.cluster.wire import Event, Payload
from local_fusion.engine import join_deltas
from local_fusion.types import Delta


class Outbox:
    """Numbered events, first in, first out. One reader at a time."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._dropped = 0
        self._open_deltas: dict[int, int] = {}
        self._ready = asyncio.Event()

    def post(self, ticket: int, payload: Payload) -> None:
        """Add an event; pieces of one call that nobody has taken yet become one piece."""
        if isinstance(payload, Delta):
            place = self._open_deltas.get(ticket)
            if place is not None:
                earlier = self._events[place - self._dropped][1]
                if isinstance(earlier, Delta):
                    self._events[place - self._dropped] = (ticket, join_deltas(earlier, payload))
                    return
            self._open_deltas[ticket] = self._dropped + len(self._events)
        elif self._open_deltas:
            self._open_deltas.pop(ticket, None)
        self._events.append((ticket, payload))
        self._ready.set()

    async def take(self, seen: int, wait_s: float | None = None) -> tuple[int, list[Event]]:
        """Events after number `seen`, and the number of the last; waits for the first one, `wait_s` at most."""
        self._forget(seen)
        if not self._events:
            self._ready.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._ready.wait()
            except TimeoutError:
                return self._dropped, []
        self._open_deltas.clear()
        return self._dropped + len(self._events), list(self._events)

    def _forget(self, seen: int) -> None:
        known = min(seen - self._dropped, len(self._events))
        if known > 0:
            del self._events[:known]
            self._dropped += known
            self._open_deltas = {ticket: place for ticket, place in self._open_deltas.items() if place >= self._dropped}
