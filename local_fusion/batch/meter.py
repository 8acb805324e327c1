"""Rates of a run over its last seconds, and what is left at that rate."""

from __future__ import annotations

import time
from collections import deque

from local_fusion.batch.progress import Progress
from local_fusion.batch.tally import Tally

_WINDOW_S = 30.0


class Meter:
    """Makes `Progress` values; each look is a point of the window the rates are taken over."""

    def __init__(self, total: int, tally: Tally) -> None:
        self.total = total
        self.resumed = tally.done
        self._tally = tally
        self._started = time.monotonic()
        self._points = deque([(self._started, tally.done, tally.tokens.completion)])

    @property
    def seconds(self) -> float:
        """Seconds since this session began."""
        return time.monotonic() - self._started

    def look(self, in_flight: int) -> Progress:
        """Where the run stands now."""
        tally, now = self._tally, time.monotonic()
        self._points.append((now, tally.done, tally.tokens.completion))
        while len(self._points) > 2 and now - self._points[1][0] > _WINDOW_S:
            self._points.popleft()
        then, rows, tokens = self._points[0]
        span = max(now - then, 1e-9)
        rows_per_s = (tally.done - rows) / span
        left = max(self.total - tally.done, 0)
        return Progress(
            total=self.total,
            done=tally.done,
            failed=tally.failed,
            resumed=self.resumed,
            in_flight=in_flight,
            tokens=tally.tokens,
            seconds=self.seconds,
            rows_per_s=rows_per_s,
            tokens_per_s=(tally.tokens.completion - tokens) / span,
            eta_s=left / rows_per_s if rows_per_s > 0 else (0.0 if not left else None),
            failures=dict(tally.failures),
            member_failures=dict(tally.member_failures),
        )
