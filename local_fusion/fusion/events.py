"""What a listener hears while a request is fused, the moment it happens. Frozen; safe to queue or serialise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from local_fusion.types import Analysis, Answer, Choice, Failure, ToolDelta, Verdict


@dataclass(frozen=True, slots=True)
class MemberStarted:
    model: str
    sample: int
    round: int = 0


@dataclass(frozen=True, slots=True)
class MemberDelta:
    """A streamed piece of a member's answer (only when `Listener.deltas`)."""

    model: str
    sample: int
    text: str = ""
    reasoning: str = ""
    round: int = 0


@dataclass(frozen=True, slots=True)
class MemberDone:
    answer: Answer


@dataclass(frozen=True, slots=True)
class MemberFailed:
    failure: Failure


@dataclass(frozen=True, slots=True)
class EarlyExit:
    """The winner cannot change any more; `aborted` calls were stopped."""

    aborted: int


@dataclass(frozen=True, slots=True)
class AnalysisStarted:
    model: str


@dataclass(frozen=True, slots=True)
class AnalysisDone:
    """`analysis` is None when it failed; the request goes on from the raw answers."""

    analysis: Analysis | None


@dataclass(frozen=True, slots=True)
class Chosen:
    choice: Choice
    model: str


@dataclass(frozen=True, slots=True)
class WriterStarted:
    model: str


@dataclass(frozen=True, slots=True)
class WriterDelta:
    """A streamed piece of the final answer. With the guard on, the returned text may still be another."""

    model: str
    text: str = ""
    reasoning: str = ""
    tools: tuple[ToolDelta, ...] = ()


@dataclass(frozen=True, slots=True)
class Guarded:
    verdict: Verdict


Event = (
    MemberStarted
    | MemberDelta
    | MemberDone
    | MemberFailed
    | EarlyExit
    | AnalysisStarted
    | AnalysisDone
    | Chosen
    | WriterStarted
    | WriterDelta
    | Guarded
)


Deltas = bool | Literal["writer"]


@dataclass(frozen=True, slots=True)
class Listener:
    """Where events go. `deltas`: also stream members and writer token by token, or the writer only (each costs more
    messages)."""

    hear: Callable[[Event], None]
    deltas: Deltas = False


def deaf(event: Event) -> None:
    """Ignores every event: the listener of a batch."""
