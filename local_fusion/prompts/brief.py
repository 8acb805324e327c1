"""The brief: what the judge is shown before any instruction: the request and the shuffled, anonymous answers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from local_fusion.prompts.neutral import neutralise
from local_fusion.types import Answer, Message

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One anonymous answer as the judge sees it; `index` is its place in the list of answers given to `make_brief`."""

    label: str
    text: str
    index: int
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Brief:
    """Request and candidates in a seeded order, with the fence tag that occurs in none of the texts. `rendered`: its
    text by template, kept because every stage begins with it."""

    request: tuple[Message, ...]
    candidates: tuple[Candidate, ...]
    tag: str
    rendered: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(candidate.label for candidate in self.candidates)

    def label_of(self, index: int) -> str:
        """The letter of the answer at `index` of the list the brief was made from."""
        return next(candidate.label for candidate in self.candidates if candidate.index == index)

    def index_of(self, label: str) -> int:
        """The inverse of `label_of`."""
        return next(candidate.index for candidate in self.candidates if candidate.label == label)


def make_brief(
    request: Sequence[Message],
    answers: Sequence[Answer],
    seed: int,
    rotation: int = 0,
    special_tokens: Iterable[str] = (),
    caps: Sequence[int | None] | None = None,
) -> Brief:
    """Shuffle `answers` by `seed`, rotate by `rotation`, name them A, B, … and choose a fence tag.

    `caps`: characters kept of each answer (None: all), by index in `answers`. Raises ValueError above 26 answers.
    """
    if len(answers) > len(LABELS):
        raise ValueError(f"at most {len(LABELS)} answers fit one brief, got {len(answers)}; fold them in windows")
    special = tuple(special_tokens)
    order = list(range(len(answers)))
    random.Random(f"order:{seed}").shuffle(order)
    shift = rotation % max(1, len(order))
    order = order[shift:] + order[:shift]
    texts = []
    for index in order:
        cap = caps[index] if caps is not None else None
        texts.append(shorten(neutralise(answers[index].text, special), cap))
    turns = tuple(
        Message(role=turn.role, content=neutralise(turn.content, special), name=turn.name) for turn in request
    )
    tag = _tag(seed, [turn.content for turn in turns] + [text for text, _ in texts])
    candidates = tuple(
        Candidate(label, text, index, cut or answers[index].cut)
        for label, index, (text, cut) in zip(LABELS, order, texts, strict=False)
    )
    return Brief(turns, candidates, tag)


def shorten(text: str, cap: int | None) -> tuple[str, bool]:
    """The text, and whether it was cut to head and tail (conclusions stand at the end): 2/3 and 1/3 of `cap`."""
    if cap is None or len(text) <= cap:
        return text, False
    head = cap * 2 // 3
    tail = max(0, cap - head)
    return text[:head] + "\n[…]\n" + (text[-tail:] if tail else ""), True


def _tag(seed: int, texts: Sequence[str]) -> str:
    """Four hex characters, the first derived from `seed` that occur in none of `texts`; longer when all are taken."""
    attempt = 0
    while True:
        length = 4 + attempt // 64
        tag = hashlib.sha256(f"tag:{seed}:{attempt}".encode()).hexdigest()[:length]
        if not any(tag in text for text in texts):
            return tag
        attempt += 1
