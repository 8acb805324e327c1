"""Two compact sets for runs of any length: row ids as 64-bit hashes, line numbers as bits.

A million ids take 16 MB. Two different ids share a hash with a probability of 3 in 10^8 at a million rows; the later
one would then be refused as a duplicate, never lost in silence.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

_FIRST_SLOTS = 1 << 10


class IdSet:
    """A set of texts that answers "was this one new?" and forgets the texts themselves. Open addressing."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _FIRST_SLOTS))
        self._mask = _FIRST_SLOTS - 1
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, text: str) -> bool:
        """Put `text` in; True when it was not there yet."""
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        value = int.from_bytes(digest, "little") or 1
        slots, mask = self._slots, self._mask
        place = value & mask
        while found := slots[place]:
            if found == value:
                return False
            place = (place + 1) & mask
        slots[place] = value
        self._count += 1
        if self._count * 3 > mask * 2:
            self._grow()
        return True

    def _grow(self) -> None:
        old = self._slots
        mask = self._mask = len(old) * 2 - 1
        slots = self._slots = array("Q", bytes(8 * (mask + 1)))
        for value in old:
            if value:
                place = value & mask
                while slots[place]:
                    place = (place + 1) & mask
                slots[place] = value


class LineSet:
    """A set of line numbers, one bit each up to the highest."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, line: int) -> bool:
        byte = line >> 3
        return byte < len(self._bits) and bool(self._bits[byte] >> (line & 7) & 1)

    def add(self, line: int) -> None:
        """Put a line in; again is nothing."""
        if line in self:
            return
        byte = line >> 3
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1 - len(self._bits)))
        self._bits[byte] |= 1 << (line & 7)
        self._count += 1
