"""Shares the time of an engine among the calls that ran on it.

Invariant: the shares of all calls add up to the time in which at least one call ran, however they overlapped.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter


class ShareMeter:
    """Integrates d(time) / (calls running). A call's share is the difference between its leave and its enter."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self.running = 0
        self._clock = clock
        self._share_s = 0.0
        self._last = clock()

    def enter(self) -> float:
        """A call starts; give the returned mark to `leave`."""
        self._advance()
        self.running += 1
        return self._share_s

    def leave(self, mark: float) -> float:
        """A call ends; its share of the engine's time, in seconds."""
        self._advance()
        self.running -= 1
        return self._share_s - mark

    def _advance(self) -> None:
        now = self._clock()
        if self.running:
            self._share_s += (now - self._last) / self.running
        self._last = now
