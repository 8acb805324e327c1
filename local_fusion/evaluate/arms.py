"""Arms: the same questions answered in several ways, each a batch of its own, graded and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from local_fusion.batch.progress import Summary
from local_fusion.evaluate.intervals import Interval, difference, share

Grader = Callable[[str, str], bool]


@dataclass(frozen=True)
class Question:
    """One prompt with the value a right answer states."""

    id: str
    prompt: str
    expected: str


@dataclass(frozen=True)
class Arm:
    """One way of answering. `right`: per question, in order; no answer is wrong. `seconds`: wall clock."""

    name: str
    is_fusion: bool
    right: tuple[bool, ...]
    tokens: int
    seconds: float

    @property
    def share(self) -> Interval:
        """Share of right answers with its 95 % interval."""
        return share(self.right)

    def gain_over(self, other: Arm) -> Interval:
        """Paired difference to another arm, with its 95 % interval."""
        return difference(self.right, other.right)


def grade_run(
    name: str, folder: Path, summary: Summary, questions: Sequence[Question], grade: Grader, is_fusion: bool
) -> Arm:
    """Grade a finished run folder by `grade(expected, text)`."""
    texts = read_texts(folder)
    right = tuple(grade(question.expected, texts.get(question.id, "")) for question in questions)
    tokens = summary.tokens.prompt + summary.tokens.completion
    return Arm(name, is_fusion, right, tokens, summary.seconds)


def read_texts(folder: Path) -> Mapping[str, str]:
    """Final answers of a run by custom id."""
    texts: dict[str, str] = {}
    with (folder / "output.jsonl").open("rb") as lines:
        for line in lines:
            record = orjson.loads(line)
            message = record["response"]["body"]["choices"][0]["message"]
            texts[record["custom_id"]] = message["content"] or ""
    return texts


def best_single(arms: Sequence[Arm]) -> Arm:
    """The arm of one model alone that has the most right answers."""
    return max((arm for arm in arms if not arm.is_fusion), key=lambda arm: sum(arm.right))
