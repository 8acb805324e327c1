"""How often members say the same: first answers compared by the comparers that a vote counts with, pair by pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from local_fusion.answers import Reader

FINAL = "final answer"


@dataclass
class Pair:
    """Of answers by two members that could be read as the same kind of value."""

    compared: int = 0
    equal: int = 0

    @property
    def share(self) -> float:
        return self.equal / self.compared if self.compared else 0.0


@dataclass
class Agreement:
    """`rows` looked at; `compared` of them had answers that can be compared at all; `unanimous`, all of them equal."""

    rows: int = 0
    compared: int = 0
    unanimous: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    pairs: dict[tuple[str, str], Pair] = field(default_factory=dict)

    def add(self, question: str, responses: Sequence[Mapping[str, Any]], final: str) -> bool | None:
        """One row; whether its members agree, None where that cannot be said."""
        first = [one for one in responses if not one.get("round") and not one.get("sample") and one["content"].strip()]
        self.rows += 1
        reader = Reader(question)
        found = reader.compare([one["content"] for one in first]) if len(first) > 1 else None
        if found is None:
            return None
        self.compared += 1
        self.kinds[found.kind] = self.kinds.get(found.kind, 0) + 1
        answers = list(zip((one["model"] for one in first), found.keys, strict=True))
        for place, (model, key) in enumerate(answers):
            for other, key_of_other in answers[place + 1 :]:
                self._count(model, other, key, key_of_other)
        with_final = reader.compare([*(one["content"] for one in first), final])
        if with_final is not None and with_final.kind == found.kind:
            for (model, _), key in zip(answers, with_final.keys[:-1], strict=True):
                self._count(model, FINAL, key, with_final.keys[-1])
        agree = len({key for _, key in answers}) == 1
        self.unanimous += agree
        return agree

    @property
    def members(self) -> list[str]:
        """Every member compared, in order of name, the final answer last."""
        names = {name for pair in self.pairs for name in pair}
        return sorted(names - {FINAL}) + [FINAL] * (FINAL in names)

    def pair(self, one: str, other: str) -> Pair | None:
        return self.pairs.get(_names(one, other))

    def _count(self, one: str, other: str, key: str | None, key_of_other: str | None) -> None:
        if key is None or key_of_other is None:
            return
        pair = self.pairs.setdefault(_names(one, other), Pair())
        pair.compared += 1
        pair.equal += key == key_of_other


def _names(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one <= other else (other, one)
