"""Who asks: what a key allows. Without a file of keys, everybody is the one local caller."""

from __future__ import annotations

from dataclasses import dataclass

from local_fusion.config.keys import NO_KEY


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a key. `fusions`: names of fusions and members it may use, None: all. Limits are None where there
    are none: `parallel` requests at once, `tokens_per_minute` of prompts and answers over all stages. `mark`: the
    beginning of the secret's hash."""

    name: str
    fusions: frozenset[str] | None = None
    parallel: int | None = None
    tokens_per_minute: int | None = None
    mark: str = ""

    @property
    def owner(self) -> str:
        """What is kept for this key goes by this: a new key under an old name is another owner."""
        return f"{self.name}{_BETWEEN}{self.mark}" if self.mark else self.name

    def may_use(self, model: str) -> bool:
        return self.fusions is None or model in self.fusions


_BETWEEN = "#"  # no part of a key's name


def names_of(owner: str) -> tuple[str, str]:
    """What may stand where an owner is kept: before there were marks, that was the name alone."""
    return owner, owner.partition(_BETWEEN)[0]


def owns(owner: str, kept: str) -> bool:
    """Whether what was kept as `kept`'s is `owner`'s."""
    return kept in names_of(owner)


LOCAL = Caller(NO_KEY)
NOBODY = Caller("", frozenset())
"""Has shown no key: reaches only what is open."""
