"""Who asks: what a key allows. Without a file of keys, everybody is the one local caller."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a key. `fusions`: names of fusions and members it may use, None: all. Limits are None where there
    are none: `parallel` requests at once, `tokens_per_minute` of prompts and answers over all stages."""

    name: str
    fusions: frozenset[str] | None = None
    parallel: int | None = None
    tokens_per_minute: int | None = None

    def may_use(self, model: str) -> bool:
        return self.fusions is None or model in self.fusions


LOCAL = Caller("local")
NOBODY = Caller("", frozenset())
"""Has shown no key: reaches only what is open."""
