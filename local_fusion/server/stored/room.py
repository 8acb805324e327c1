"""How many bytes each key has on the server's disk, in files, in uploads under way, and in what batches still read.

Invariant: what `take` has granted stays within the limits; what the server itself adds by `add` is never refused.
"""

from __future__ import annotations

from collections import Counter

from local_fusion.errors import RequestError
from local_fusion.server.door.callers import names_of


class Room:
    """`total`: bytes of all keys at most; `each`: of one key, None: no less than all."""

    def __init__(self, total: int, each: int | None = None) -> None:
        self._most, self._most_each = total, each
        self._bytes: Counter[str] = Counter()
        self.total = 0

    def of(self, owner: str) -> int:
        """Bytes of one key."""
        return sum(self._bytes[name] for name in {*names_of(owner)})

    def take(self, owner: str, more: int) -> None:
        """Room for `more` bytes. Raises RequestError (storage_full)."""
        if self.total + more > self._most:
            raise RequestError("the server's room for files is used up; delete files first", "storage_full")
        if self._most_each is not None and self.of(owner) + more > self._most_each:
            raise RequestError(
                f"the files of this key have {self._most_each} bytes, which is the limit; delete some", "storage_full"
            )
        self.add(owner, more)

    def add(self, owner: str, more: int) -> None:
        self._bytes[owner] += more
        self.total += more

    def give_back(self, owner: str, less: int) -> None:
        self.add(owner, -less)
