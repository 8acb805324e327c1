"""What a mode decides, and how it becomes the one `Fused` of the request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from local_fusion.fusion.session import Session, said_tokens
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


def of_answer(session: Session, answer: Answer, mode: Mode, why: str) -> Outcome:
    """A member's answer returned as it is, but for the client's stop strings, which end it where they first occur, and
    the client's `max_tokens`, at which it is cut."""
    text, stopped = _stopped(answer.text, session.stop)
    short, cut = _shortened(session, answer, text)
    finish: FinishReason = "length" if cut or (answer.cut and not stopped) else "stop"
    return Outcome(short, answer.model, mode, why, finish, answer.reasoning)


def _shortened(session: Session, answer: Answer, text: str) -> tuple[str, bool]:
    """The text within the client's limit, by the mean length of the answer's tokens."""
    most = session.request.max_tokens
    if most is None or session.short_enough(answer):
        return text, False
    kept = len(answer.text) * most // said_tokens(answer)
    return (text[:kept], True) if kept < len(text) else (text, False)


def _stopped(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    ends = [place for word in stop if word and (place := text.find(word)) >= 0]
    return (text[: min(ends)], True) if ends else (text, False)
