"""Events of a host that wait for its driver.

Invariant: an event stays until the reader names it as seen, so a lost reply loses nothing; a reader that comes late
gets all that is ready at once. Pieces of text alone make a message every few milliseconds at most; whatever ends a call
goes at once, with all that waits.
"""

from __future__ import annotations

import asyncio

from local_fusion.cluster.wire import Event, Payload
from local_fusion.engine import join_deltas
from local_fusion.types import Delta

PIECES_EVERY_S = 0.004
"""Many streams on one host would else cost a message a token, each of which both ends pay for."""


class Outbox:
    """Numbered events, first in, first out. One reader at a time."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._dropped = 0
        self._open_deltas: dict[int, int] = {}
        self._given = 0
        self._given_at = -PIECES_EVERY_S
        self._ready = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

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
            self._ready_soon()
        else:
            self._open_deltas.pop(ticket, None)
            self._ready.set()
        self._events.append((ticket, payload))

    async def take(self, seen: int, wait_s: float | None = None) -> tuple[int, list[Event]]:
        """Events after number `seen`, and the number of the last; waits for the first one, `wait_s` at most."""
        self._forget(seen)
        if seen >= self._given:  # else the last reply was lost
            try:
                async with asyncio.timeout(wait_s):
                    await self._ready.wait()
            except TimeoutError:
                return self._dropped, []
        self._ready.clear()
        self._open_deltas.clear()
        self._given = self._dropped + len(self._events)
        self._given_at = asyncio.get_running_loop().time()
        return self._given, list(self._events)

    def _ready_soon(self) -> None:
        if self._timer is not None or self._ready.is_set():
            return
        loop = asyncio.get_running_loop()
        wait_s = self._given_at + PIECES_EVERY_S - loop.time()
        if wait_s <= 0:
            self._ready.set()
        else:
            self._timer = loop.call_later(wait_s, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._dropped + len(self._events) > self._given:
            self._ready.set()

    def _forget(self, seen: int) -> None:
        known = min(seen - self._dropped, len(self._events))
        if known > 0:
            del self._events[:known]
            self._dropped += known
            self._open_deltas = {ticket: place for ticket, place in self._open_deltas.items() if place >= self._dropped}
