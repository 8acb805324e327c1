"""Which rows of a large run are looked at one by one: drawn evenly by a hash of their line, so that the same run gives
the same rows, with more of those that ask for attention. Memory is bounded by the numbers here.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from hashlib import blake2b

EVEN = 1_000
"""Rows shown, drawn evenly over the run."""
EACH = 120
"""Rows shown besides, of each kind that asks for attention."""
COMPARED = 5_000
"""Rows whose answers are compared."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A row: the file its record lies in, the how manieth it is there, and its line of the input."""

    file: str
    ordinal: int
    line: int


class Draw:
    """Keeps the `size` places with the smallest hash."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: list[tuple[int, Place]] = []

    def offer(self, place: Place) -> None:
        entry = (-order(place.line), place)
        if len(self._kept) < self._size:
            heapq.heappush(self._kept, entry)
        elif entry > self._kept[0]:
            heapq.heapreplace(self._kept, entry)

    def drop(self, file: str) -> None:
        """Forget the places in `file`: what it held is void."""
        self._kept = [entry for entry in self._kept if entry[1].file != file]
        heapq.heapify(self._kept)

    @property
    def places(self) -> set[Place]:
        return {place for _, place in self._kept}


class Choice:
    """All draws of one report."""

    def __init__(self, even: int = EVEN, each: int = EACH, compared: int = COMPARED) -> None:
        self._even = Draw(even)
        self._each = each
        self._kinds: dict[str, Draw] = {}
        self._compared = Draw(compared)

    def offer(self, place: Place, kinds: list[str], is_answered: bool) -> None:
        """A row that has ended; `kinds`: what is particular about it."""
        self._even.offer(place)
        for kind in kinds:
            self._kinds.setdefault(kind, Draw(self._each)).offer(place)
        if is_answered:
            self._compared.offer(place)

    def drop(self, file: str) -> None:
        for draw in (self._even, self._compared, *self._kinds.values()):
            draw.drop(file)

    @property
    def shown(self) -> set[Place]:
        return self._even.places | self.particular

    @property
    def particular(self) -> set[Place]:
        """Those shown because they ask for attention."""
        return set[Place]().union(*(draw.places for draw in self._kinds.values()))

    @property
    def compared(self) -> set[Place]:
        return self._compared.places


def order(line: int) -> int:
    """Lines in this order are an even draw, however few are taken from its beginning."""
    return int.from_bytes(blake2b(line.to_bytes(8, "big"), digest_size=8).digest(), "big")
