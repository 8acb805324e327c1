"""How often a host may be started again before its model is given up."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

CALM_S = 600.0
"""Seconds a host must have been up for its earlier deaths to be forgotten."""


class RestartBudget:
    """`allowed` restarts in a row, any number when negative. A host that dies once a month never uses it up."""

    def __init__(self, allowed: int, clock: Callable[[], float] = monotonic) -> None:
        self._allowed = allowed
        self._clock = clock
        self._up_since: float | None = None
        self.used = 0
        """Restarts since the last calm time."""

    def is_up(self) -> None:
        """The host answered its probe."""
        self._up_since = self._clock()

    def take(self) -> bool:
        """One more restart, if it is allowed."""
        if self._up_since is not None and self._clock() - self._up_since >= CALM_S:
            self.used = 0
        self._up_since = None
        if 0 <= self._allowed <= self.used:
            return False
        self.used += 1
        return True
