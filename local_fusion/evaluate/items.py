"""The nouns of an evaluation: an item of a set, what an arm said to it, and the grade of that. Frozen, plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from local_fusion.types import Message, StageUsage, Timing, Tokens, Verdict

Match = Literal[
    "exact", "number", "choice", "regex", "json", "instructions", "code", "rubric", "points", "pair", "given"
]
MATCHES: tuple[Match, ...] = (
    "exact", "number", "choice", "regex", "json", "instructions", "code", "rubric", "points", "pair", "given",
)  # fmt: skip
JUDGED: tuple[Match, ...] = ("rubric", "points", "pair")
"""Kinds of grading that ask a judge model."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a set. `match`: how an answer is graded against `expected`, whose form depends on it (see
    `scorers`, `judged`); `details`: more for the scorer. `then`: user turns asked after the first answer, each in
    the conversation that the arm itself has had. `kind`: category, for grouping and search."""

    id: str
    messages: tuple[Message, ...]
    match: Match
    expected: Any = None
    details: Mapping[str, Any] = field(default_factory=dict)
    then: tuple[str, ...] = ()
    kind: str = ""

    @property
    def question(self) -> str:
        """What the user says first."""
        return next((turn.content for turn in reversed(self.messages) if turn.role == "user"), "")


@dataclass(frozen=True, slots=True)
class Grade:
    """`score` 0..1, or None where the answer could not be graded, which is not the same as wrong; `why`: in words,
    may quote the answer."""

    score: float | None
    why: str = ""

    @property
    def right(self) -> bool:
        """More than half of what there was to get."""
        return self.score is not None and self.score > 0.5


@dataclass(frozen=True, slots=True)
class Said:
    """What one arm answered to one item: a text per turn, empty where it failed (`failure` says why).

    `calls` and `seconds` are of all turns; `tokens` their sum. Seconds follow from the calls as they were measured
    when each was run: the slowest of each stage and round, one after the other.
    """

    texts: tuple[str, ...]
    model: str = ""
    why: str = ""
    failure: str = ""
    verdict: Verdict | None = None
    probabilities: tuple[float, ...] = ()
    calls: tuple[StageUsage, ...] = ()

    @property
    def tokens(self) -> Tokens:
        """Prompt, cached and completion tokens of all calls."""
        return sum((call.tokens for call in self.calls), Tokens())

    @property
    def gpu_s(self) -> float:
        """GPU-seconds of all calls."""
        return sum(call.timing.gpu_s for call in self.calls)

    @property
    def seconds(self) -> float:
        """How long the answer takes by its calls: the slowest of each stage and round, one after the other."""
        slowest: dict[tuple[int, str, int], float] = {}
        rounds: Counter[tuple[int, str, str, int]] = Counter()
        for call in self.calls:
            turn = _turn_of(call)
            seat = (turn, call.stage, call.model, call.sample)
            place = (turn, call.stage, rounds[seat] if call.stage in _IN_ROUNDS else 0)
            rounds[seat] += 1
            slowest[place] = max(slowest.get(place, 0.0), call.timing.total_s)
        return sum(slowest.values())


_IN_ROUNDS = ("revise", "layer")
"""Stages that a seat may be in several times, one after the other."""


def _turn_of(call: StageUsage) -> int:
    """Which turn of the item a call belongs to, by its id."""
    request = call.call_id.split("/", 1)[0]
    _, mark, number = request.rpartition(TURN)
    return int(number) if mark and number.isdigit() else 0


TURN = "~turn-"
"""Between an item's id and the number of a later turn, in the id of that turn's request."""


@dataclass(frozen=True, slots=True)
class PanelAnswer:
    """A first-round answer of the panel with its grade: material for oracle, calibration and agreement."""

    model: str
    sample: int
    text: str
    certainty: float | None
    grade: Grade
    timing: Timing = field(default_factory=Timing)
    tokens: Tokens = field(default_factory=Tokens)
