"""What a door asks for and what it gets: requests, answers, failures, analysis, receipt, `Fused`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from local_fusion.types.calls import (
    FailureReason,
    FinishReason,
    Message,
    Mode,
    Sampling,
    Stage,
    Timing,
    Tokens,
    ToolCall,
)


@dataclass(frozen=True, slots=True)
class Request:
    """What a door asks for. `sampling`, `json_schema`, `tools`, `stop` belong to the final answer only (None: as the
    fusion says). `max_tokens`: the limit that the client itself set for it, None where it set none, whatever the
    sampling's own is. `seed` is the root of every seed of this request, with `seed_name` beside it (None: the id), so
    that a seed can repeat an answer under another id; `id` is the root of every call id."""

    id: str
    messages: tuple[Message, ...]
    seed: int = 0
    sampling: Sampling | None = None
    json_schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    cache_salt: str | None = None
    priority: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    seed_name: str | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What one member said, once. `certainty` = exp(mean token log-probability), 0..1, None if unknown.
    `cut`: stopped by `max_tokens`. `round`: 0 first, 1.. after revision or in a later layer."""

    model: str
    sample: int
    text: str
    reasoning: str | None = None
    round: int = 0
    certainty: float | None = None
    cut: bool = False
    tokens: Tokens = Tokens()
    timing: Timing = Timing()
    seed: int = 0
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A member or stage that gave nothing usable; `error` is a sentence without any part of a prompt."""

    model: str
    reason: FailureReason
    error: str
    stage: Stage = "panel"
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Stance:
    model: str
    stance: str


@dataclass(frozen=True, slots=True)
class Contradiction:
    topic: str
    stances: tuple[Stance, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    models: tuple[str, ...]
    point: str


@dataclass(frozen=True, slots=True)
class Insight:
    model: str
    insight: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """The five lists of OpenRouter's Fusion, models by name (letters are mapped back before anyone sees them)."""

    consensus: tuple[str, ...] = ()
    contradictions: tuple[Contradiction, ...] = ()
    partial_coverage: tuple[Coverage, ...] = ()
    unique_insights: tuple[Insight, ...] = ()
    blind_spots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The guard's word. `kept`: what was returned. `margin`: mean log-odds of the written text over the best answer."""

    kept: Literal["written", "answer"]
    margin: float
    against: str
    consistent: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """One reading of labels made into a distribution over candidates: how a winner was found."""

    stage: Stage
    model: str
    probabilities: tuple[float, ...]
    winner: int
    rotations: int = 1
    paired: bool = False


@dataclass(frozen=True, slots=True)
class StageUsage:
    """One call in the receipt. `ended_s`: seconds after the request began at which its result was there."""

    stage: Stage
    model: str
    sample: int
    tokens: Tokens
    timing: Timing
    call_id: str
    seed: int | None = None
    ended_s: float | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """Everything needed to understand an answer and to run it again."""

    fusion: str
    mode: Mode
    why: str
    answers: tuple[Answer, ...] = ()
    failures: tuple[Failure, ...] = ()
    analysis: Analysis | None = None
    choice: Choice | None = None
    verdict: Verdict | None = None
    changed_minds: tuple[str, ...] = ()
    early_exit: bool = False
    aborted: int = 0
    notes: tuple[str, ...] = ()
    calls: tuple[StageUsage, ...] = ()
    seconds: float = 0.0
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    templates: str = ""


@dataclass(frozen=True, slots=True)
class Fused:
    """One final answer. `model` wrote it. `degraded` says what was missing, in words, empty when nothing was."""

    request_id: str
    text: str
    model: str
    finish_reason: FinishReason
    receipt: Receipt
    tokens: Tokens = Tokens()
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    degraded: tuple[str, ...] = ()
