"""How many bytes each key may add to a growing file in a day (UTC), counted since the server began."""

from __future__ import annotations

from collections import Counter


class Rations:
    """`most`: bytes of one key in a day."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._day = ""
        self._eaten: Counter[str] = Counter()

    def grant(self, key: str, day: str, size_bytes: int) -> bool:
        """Whether so much more may be added; then it counts. `day`: any text that changes with the day."""
        if day != self._day:
            self._day, self._eaten = day, Counter()
        if self._eaten[key] + size_bytes > self._most:
            return False
        self._eaten[key] += size_bytes
        return True
