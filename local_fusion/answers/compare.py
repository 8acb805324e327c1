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
from local_fusion.answers.text import QUESTION_CHARACTERS, is_short, marked


@dataclass(frozen=True, slots=True)
class Comparer:
    """One kind of value; `read(question, answer)` gives its canonical text, or None where the answer has none."""

    kind: str
    read: Callable[[str, str], str | None]


COMPARERS: tuple[Comparer, ...] = (
    Comparer("JSON", read_json),
    Comparer("choice", read_choice),
    Comparer("yes or no", read_yes_or_no),
    Comparer("date", read_date),
    Comparer("list", read_list),
    Comparer("number", read_number),
    Comparer("quoted value", read_quoted),
    Comparer("short text", read_short_text),
)
"""From the most particular to the most general; a kind is added by adding a row."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One value per answer, of one kind; None: this answer has none."""

    kind: str
    keys: tuple[str | None, ...]

    @property
    def whole(self) -> bool:
        """Every answer could be read."""
        return None not in self.keys


class Reader:
    """Reads the answers to one question; what was read once is remembered."""

    def __init__(self, question: str, comparers: Sequence[Comparer] = COMPARERS) -> None:
        self._question = question[-QUESTION_CHARACTERS:]
        self._comparers = comparers
        self._known: dict[tuple[str, str], str | None] = {}

    def compare(self, answers: Sequence[str], strict: bool = False) -> Comparison | None:
        """By the first kind that every answer has; else by the kind that most have, if that is at least half.

        `strict`: only where every answer is short, or marks its value, and has one kind. None: not comparable.
        """
        if not answers or (strict and not all(self._plain_enough(answer) for answer in answers)):
            return None
        best: Comparison | None = None
        most = 0
        for comparer in self._comparers:
            keys = tuple(self._read(comparer, answer) for answer in answers)
            count = sum(key is not None for key in keys)
            if count == len(answers):
                return Comparison(comparer.kind, keys)
            if count > most:
                best, most = Comparison(comparer.kind, keys), count
        return best if not strict and 2 * most >= len(answers) else None

    def _plain_enough(self, answer: str) -> bool:
        return is_short(answer) or marked(answer) is not None or self._read(self._comparers[0], answer) is not None

    def _read(self, comparer: Comparer, answer: str) -> str | None:
        place = (comparer.kind, answer)
        if place not in self._known:
            self._known[place] = comparer.read(self._question, answer)
        return self._known[place]


def comparable(question: str, answers: Sequence[str]) -> Comparison | None:
    """Whether a vote over these answers makes sense at all: each short or marked, all of one kind; None if not."""
    return Reader(question).compare(answers, strict=True)
