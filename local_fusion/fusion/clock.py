"""How long a call has been with its engine, and a limit that counts by it.

Invariant: waiting for a place, for the model's turn on the GPUs or for a host's restart uses nothing of a call's time,
until it is first sent. Where nobody reports such a wait, the call is with its engine from the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from local_fusion.engine import watched

T = TypeVar("T")


class Overdue(Exception):
    """The limit of a call has passed; an engine's own TimeoutError is not this."""


class Clock:
    """Of one call; satisfies `engine.Watch`. `since`: the loop's time at which an engine got it; None: none has yet.
    `held_up`: it waits for a host that is down, not just for its turn. `moved` hears of each change."""

    def __init__(self, moved: Callable[[], None] | None = None) -> None:
        self.since: float | None = None
        self.held_up = False
        self._moved = moved
        self._scope: asyncio.Timeout | None = None
        self._limit_s: float | None = None
        self._deadline: float | None = None
        self._sent = False

    @property
    def seconds(self) -> float:
        """With its engine so far; 0 where it waits."""
        return 0.0 if self.since is None else asyncio.get_running_loop().time() - self.since

    def leave(self) -> None:
        """Whoever heard of changes needs no more: the two must not keep each other alive."""
        self._moved = None

    def waits(self, soon: bool) -> None:
        """See `engine.Watch`. Ignored once an engine has had the call: trying again does not lengthen its time."""
        if not self._sent:
            self._set(None, held_up=not soon)

    def placed(self) -> None:
        """See `engine.Watch`."""
        self._sent = True
        if self.since is None:
            self._set(asyncio.get_running_loop().time())

    async def limit(self, work: Awaitable[T], limit_s: float | None, deadline: float | None = None) -> T:
        """Await `work` for `limit_s` with its engine, and to the `deadline` (loop's time) at the latest.

        Raises Overdue, and whatever `work` raises."""
        self._limit_s, self._deadline = limit_s, deadline
        self._set(asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout_at(self._end()) as self._scope:
                with watched(self):
                    return await work
        except TimeoutError:
            if self._scope is not None and self._scope.expired():
                raise Overdue from None
            raise
        finally:
            self._scope = None

    def _end(self) -> float | None:
        own = None if self.since is None or self._limit_s is None else self.since + self._limit_s
        return min((end for end in (own, self._deadline) if end is not None), default=None)

    def _set(self, since: float | None, held_up: bool = False) -> None:
        self.since, self.held_up = since, held_up
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(self._end())
        if self._moved is not None:
            self._moved()
