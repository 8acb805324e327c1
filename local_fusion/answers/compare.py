"""The table of comparers, and the choice of the one that fits a question's answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from local_fusion.answers.kinds import (
    read_choice,
    read_date,
    read_json,
    read_list,
    read_quoted,
    read_short_text,
    read_yes_or_no,
)
from local_fusion.answers.numbers import read_number
from local_fusion.answers.text import QUESTION_CHARACTERS, Text, is_short, marked


@dataclass(frozen=True, slots=True)
class Comparer:
    """One kind of value; `read(question, answer)` gives its canonical text, or None where the answer has none.
    `general`: nearly every short answer has one, so that having it says little."""

    kind: str
    read: Callable[[Text, Text], str | None]
    general: bool = False


COMPARERS: tuple[Comparer, ...] = (
    Comparer("JSON", read_json),
    Comparer("choice", read_choice),
    Comparer("yes or no", read_yes_or_no),
    Comparer("date", read_date),
    Comparer("list", read_list),
    Comparer("number", read_number),
    Comparer("quoted value", read_quoted, general=True),
    Comparer("short text", read_short_text, general=True),
)
"""From the most particular to the most general; a kind is added by adding a row."""


_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Comparison:
    """One value per answer, of one kind; None: this answer has none."""

    kind: str
    keys: tuple[str | None, ...]

    @property
    def whole(self) -> bool:
        """Every answer could be read."""
        return None not in self.keys


@dataclass(frozen=True, slots=True)
class _Scored:
    """A comparison with the weight of the answers that have its kind."""

    comparison: Comparison
    weight: float
    general: bool

    @property
    def said(self) -> bool:
        """At least one answer has the kind."""
        return any(key is not None for key in self.comparison.keys)


class Reader:
    """Reads the answers to one question; what was read once is remembered."""

    def __init__(self, question: str, comparers: Sequence[Comparer] = COMPARERS) -> None:
        self._question = Text(question[-QUESTION_CHARACTERS:])
        self._comparers = comparers
        self._answers: dict[str, Text] = {}
        self._known: dict[tuple[str, str], str | None] = {}

    def compare(
        self, answers: Sequence[str], strict: bool = False, weights: Sequence[float] | None = None
    ) -> Comparison | None:
        """By the particular kind that most of the `weights` (of the answers; default: alike) have, if that is at least
        half; else by the first general kind that every answer has, or that most have, if that is at least half.

        `strict`: only where every answer is short, or marks its value. None: not comparable.
        """
        found = self.possible(answers, strict, weights)
        return found[0] if found else None

    def possible(
        self,
        answers: Sequence[str],
        strict: bool = False,
        weights: Sequence[float] | None = None,
        to_come: float = 0.0,
    ) -> list[Comparison]:
        """Every comparison that `compare` may make of these and more answers, of the weight `to_come` in all; the first
        is the one of these. Empty where they, or they and the others, may not be comparable at all."""
        if not answers or (strict and not all(self._plain_enough(answer) for answer in answers)):
            return []
        shares = [1.0] * len(answers) if weights is None else weights
        scored = [self._scored(comparer, answers, shares) for comparer in self._comparers]
        particular = [one for one in scored if not one.general and (one.said or to_come)]
        half = (sum(shares) + to_come) / 2 - _EPSILON
        most = max((one.weight for one in particular), default=0.0)
        found = [one for one in particular if one.weight + to_come >= max(half, most)]
        found.sort(key=lambda one: one.weight, reverse=True)
        if most < half or not particular:
            general = _general([one for one in scored if one.general and one.said], half, to_come, strict)
            if not general and to_come:
                return []
            found += general
        return [one.comparison for one in found]

    def _plain_enough(self, answer: str) -> bool:
        return (
            is_short(answer)
            or self._text(answer).find(marked) is not None
            or self._read(self._comparers[0], answer) is not None
        )

    def _scored(self, comparer: Comparer, answers: Sequence[str], shares: Sequence[float]) -> _Scored:
        keys = tuple(self._read(comparer, answer) for answer in answers)
        weight = sum(share for share, key in zip(shares, keys, strict=True) if key is not None)
        return _Scored(Comparison(comparer.kind, keys), weight, comparer.general)

    def _text(self, answer: str) -> Text:
        return self._answers.setdefault(answer, Text(answer))

    def _read(self, comparer: Comparer, answer: str) -> str | None:
        """None too where reading broke: the answers are others' text, and one of them must not end the row."""
        place = (comparer.kind, answer)
        if place not in self._known:
            try:
                self._known[place] = comparer.read(self._question, self._text(answer))
            except Exception:  # whatever it is, this answer has no value of this kind
                self._known[place] = None
        return self._known[place]


def _general(kinds: Sequence[_Scored], half: float, to_come: float, strict: bool) -> list[_Scored]:
    """The general kinds that may be compared by: those that every answer has first. Empty where it may be none."""
    whole = [one for one in kinds if one.comparison.whole]
    if strict:
        return whole
    enough = [one for one in kinds if not one.comparison.whole and one.weight + to_come >= half]
    if to_come and not any(one.weight >= half for one in kinds):
        return []
    return whole + sorted(enough, key=lambda one: one.weight, reverse=True)


def comparable(question: str, answers: Sequence[str]) -> Comparison | None:
    """Whether a vote over these answers makes sense at all: each short or marked, all of one kind; None if not."""
    return Reader(question).compare(answers, strict=True)
