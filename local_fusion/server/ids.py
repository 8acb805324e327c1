"""Names of what the server makes: random, so that nobody finds another's by counting."""

from __future__ import annotations

import secrets


def new_id(prefix: str) -> str:
    """`prefix` (with its own separator, as OpenAI writes it: `chatcmpl-`, `resp_`) and 24 hex digits."""
    return f"{prefix}{secrets.token_hex(12)}"


def new_seed() -> int:
    """A root of seeds for a request whose client gave none: 53 bits, exact in every JSON reader."""
    return secrets.randbits(53)
