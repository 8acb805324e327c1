"""Sizes of texts in bytes, which bound their tokens, and fair shares of a size."""

from __future__ import annotations

from collections.abc import Sequence

from local_fusion.types import Message

TEMPLATE_TOKENS = 256  # what a chat template may add by itself: a default system text, dates, tool hints
TURN_BYTES = 16


def byte_length(text: str) -> int:
    """Bytes in UTF-8: tokens are never more."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def prompt_bound(messages: Sequence[Message]) -> int:
    """Tokens that these messages can be at most, the chat template's own included."""
    return TEMPLATE_TOKENS + sum(byte_length(message.content) + TURN_BYTES for message in messages)


def equal_share(sizes: Sequence[int], total: int) -> int:
    """The largest share such that every size cut to it sums to `total` at most: short ones stay whole."""
    left, rest = total, len(sizes)
    for size in sorted(sizes):
        if size * rest > left:
            return max(0, left // rest)
        left -= size
        rest -= 1
    return max(sizes, default=0)
