"""Calls of one model that wait for a place on a replica: smaller priority first, then first come.

Knows no Ray. Invariant: a place that is given is given back, or handed to the next in line. A call that has to wait is
reported to its `engine.Watch`, and again when it has its place.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Generic, NamedTuple, Protocol, TypeVar

from local_fusion.engine import current_watch
from local_fusion.errors import CallError, EngineDied


class Seat(Protocol):
    """Something with a bounded number of places."""

    @property
    def free(self) -> int:
        """Places free now; 0 while it takes no calls."""
        ...

    taken: int


S = TypeVar("S", bound=Seat)


class _Waiting(NamedTuple, Generic[S]):
    priority: int
    number: int
    since: float
    call_id: str
    future: asyncio.Future[S]


class Line(Generic[S]):
    """Hands out places on `seats`, the least taken first. `asleep` holds everyone back."""

    def __init__(self, seats: Sequence[S], arrived: Callable[[], None] | None = None) -> None:
        self._seats = seats
        self._arrived = arrived
        self._heap: list[_Waiting[S]] = []
        self._count = 0
        self._closed: str | None = None
        self.asleep = False

    @property
    def waiting(self) -> int:
        return sum(1 for entry in self._heap if not entry.future.done())

    @property
    def oldest_s(self) -> float:
        """Seconds the longest-waiting call has waited; 0 where none waits."""
        since = [entry.since for entry in self._heap if not entry.future.done()]
        return monotonic() - min(since) if since else 0.0

    @property
    def taken(self) -> int:
        return sum(seat.taken for seat in self._seats)

    async def enter(self, priority: int, call_id: str) -> S:
        """A place, when one is free. Raises EngineDied once closed, or what `drop` was given."""
        if self._closed is not None:
            raise EngineDied(self._closed)
        watch = current_watch()
        if not self._heap and (seat := self._best()) is not None:
            seat.taken += 1
            if watch is not None:
                watch.placed()
            return seat
        future: asyncio.Future[S] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._heap, _Waiting(priority, self._count, monotonic(), call_id, future))
        self.refresh()
        if self._arrived is not None and not future.done():
            self._arrived()
        if watch is not None and not future.done():
            watch.waits(soon=self.asleep or self.taken > 0)
        try:
            seat = await future
            if watch is not None:
                watch.placed()
            return seat
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.leave(future.result())
            raise

    def leave(self, seat: S) -> None:
        """Give a place back."""
        seat.taken -= 1
        self.refresh()

    def refresh(self) -> None:
        """Hand out what is free; call it whenever a seat or `asleep` changed."""
        while self._heap and (seat := self._best()) is not None:
            future = heapq.heappop(self._heap).future
            if not future.done():
                seat.taken += 1
                future.set_result(seat)

    def drop(self, call_ids: Sequence[str], problem: CallError) -> None:
        """Send these away with `problem`."""
        wanted = set(call_ids)
        for entry in self._heap:
            if entry.call_id in wanted and not entry.future.done():
                entry.future.set_exception(problem)

    def close(self, why: str) -> None:
        """Nobody gets a place any more: all, now and later, end with EngineDied."""
        self._closed = why
        for entry in self._heap:
            if not entry.future.done():
                entry.future.set_exception(EngineDied(why))
        self._heap.clear()

    def _best(self) -> S | None:
        if self.asleep:
            return None
        free = [seat for seat in self._seats if seat.free > 0]
        return min(free, key=lambda seat: seat.taken) if free else None
