"""Which member is the best one, without looking at the item it is compared on.

The best of several members on some items looks better there than it is. So the items are parted into two halves by a
hash of their ids; an item of one half is compared with, and self-sampled from, the member that is best on the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from local_fusion.evaluate.items import Grade, Item


class Chooser:
    """`best`: a member's name per item. `halves`: the best member by half it was chosen on; `hindsight`: the best on
    all items, which is the harder thing to beat."""

    def __init__(self, items: Sequence[Item], grades: Mapping[str, Sequence[Grade]]) -> None:
        self._grades = grades
        sides = [half_of(item.id) for item in items]
        places = range(len(items))
        self.hindsight = self._best(places)
        parts = [[place for place in places if sides[place] == half] for half in (0, 1)]
        self.halves = tuple(self._best(part) if part else self.hindsight for part in parts)
        self.best = [self.halves[1 - side] for side in sides]

    def _best(self, places: Sequence[int]) -> str:
        """The highest sum of scores, the panel's order at a tie."""
        return max(self._grades, key=lambda name: sum(self._grades[name][place].score or 0.0 for place in places))


def half_of(item_id: str) -> int:
    """0 or 1, by the id alone: the same in every run."""
    return hashlib.sha256(f"half {item_id}".encode("utf-8", "surrogatepass")).digest()[0] & 1
