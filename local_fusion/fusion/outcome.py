"""What a mode decides, and how it becomes the one `Fused` of the request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from local_fusion.types import Answer, FinishReason, Mode, ToolCall


@dataclass(frozen=True, slots=True)
class Outcome:
    """The final text, who wrote it, and in a plain sentence why it is this one. `mode`: what was really done."""

    text: str
    model: str
    mode: Mode
    why: str
    finish_reason: FinishReason = "stop"
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()


def of_answer(answer: Answer, mode: Mode, why: str, stop: Sequence[str] = ()) -> Outcome:
    """A member's answer returned as it is, but for the client's stop strings, which end it where they first occur."""
    text, stopped = _stopped(answer.text, stop)
    finish: FinishReason = "length" if answer.cut and not stopped else "stop"
    return Outcome(text, answer.model, mode, why, finish, answer.reasoning)


def _stopped(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    ends = [place for word in stop if word and (place := text.find(word)) >= 0]
    return (text[: min(ends)], True) if ends else (text, False)
