"""What one key may still do: requests at once, and tokens a minute out of a bucket that fills evenly.

Tokens are known only afterwards: a request may overdraw the bucket, and then the key waits until it is above nought.
"""

from __future__ import annotations

import math
from time import monotonic

from local_fusion.server.door.callers import Caller
from local_fusion.server.problems import Overloaded


class Allowance:
    """Of one key; `at_once`: its requests that wait or work."""

    def __init__(self) -> None:
        self.at_once = 0
        self._parallel: int | None = None
        self._rate: int | None = None
        self._tokens = 0.0
        self._at = 0.0

    def limit(self, caller: Caller) -> None:
        """The key's limits as they stand in the file now. Another rate fills no bucket: it only fills at that rate."""
        self._parallel = caller.parallel
        rate = caller.tokens_per_minute
        if rate != self._rate:
            now = monotonic()
            left = float(rate or 0) if self._rate is None else min(self._left(now), float(rate or 0))
            self._rate, self._tokens, self._at = rate, left, now

    def check(self, now: float) -> None:
        """Raises Overloaded where the key is at a limit."""
        if self._parallel is not None and self.at_once >= self._parallel:
            message = f"this key may have {self._parallel} requests at once; wait for one to end"
            raise Overloaded(message, 1, self.headers(now))
        self.check_tokens(now)

    def check_tokens(self, now: float) -> None:
        """Raises Overloaded where the key has no tokens left."""
        if self._rate is not None and self._left(now) <= 0:
            wait = self._wait_s()
            message = f"this key may use {self._rate} tokens a minute; try again in {wait} s"
            raise Overloaded(message, wait, self.headers(now))

    def spend(self, tokens: int) -> None:
        """A reply has cost so many."""
        if self._rate is not None:
            self._left(monotonic())
            self._tokens -= tokens

    def headers(self, now: float) -> dict[str, str]:
        """`x-ratelimit-*` as OpenAI's clients read them; empty for a key without limits."""
        found: dict[str, str] = {}
        if self._parallel is not None:
            found["x-ratelimit-limit-requests"] = str(self._parallel)
            found["x-ratelimit-remaining-requests"] = str(max(0, self._parallel - self.at_once))
            found["x-ratelimit-reset-requests"] = "1s"
        if self._rate is not None:
            left = max(0.0, self._left(now))
            found["x-ratelimit-limit-tokens"] = str(self._rate)
            found["x-ratelimit-remaining-tokens"] = str(int(left))
            found["x-ratelimit-reset-tokens"] = f"{(self._rate - left) * 60 / self._rate:.0f}s"
        return found

    def _left(self, now: float) -> float:
        rate = self._rate or 0
        self._tokens = min(float(rate), self._tokens + max(0.0, now - self._at) * rate / 60)
        self._at = now
        return self._tokens

    def _wait_s(self) -> int:
        return max(1, math.ceil(-self._tokens * 60 / (self._rate or 1)))
