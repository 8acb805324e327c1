"""One member's turn: what is asked of it, and its completion made into an answer or a typed failure."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_fusion.errors import CallError
from local_fusion.fusion.clock import Clock
from local_fusion.fusion.events import MemberDelta, MemberStarted
from local_fusion.fusion.session import Heard, Session
from local_fusion.fusion.thinking import split_thinking
from local_fusion.types import Answer, Completion, Delta, Failure, Message, Sampling, Stage

Prompt = tuple[Message, ...] | Callable[[], Awaitable[tuple[Message, ...]]]


@dataclass(frozen=True, slots=True)
class Ask:
    """One answer wanted. `prompt` may be a coroutine function where it depends on other answers; it raises CallError
    where there is nothing to ask."""

    model: str
    sample: int
    sampling: Sampling
    prompt: Prompt
    weight: float = 1.0
    stage: Stage = "panel"
    round: int = 0
    json_schema: Mapping[str, Any] | None = None


async def answer(session: Session, ask: Ask, clock: Clock | None = None) -> Answer | Failure:
    """Ask once; `clock` runs while the engine has the call. Never raises for a failure of the call."""
    try:
        messages = ask.prompt if isinstance(ask.prompt, tuple) else await ask.prompt()
        session.emit(MemberStarted(ask.model, ask.sample, ask.round))
        completion, seed = await session.generate(
            ask.stage,
            ask.model,
            ask.sample,
            messages,
            ask.sampling,
            turn=ask.round,
            json_schema=ask.json_schema,
            delta=_teller(session, ask) if session.member_deltas else None,
            clock=clock,
        )
    except CallError as problem:
        return Failure(ask.model, problem.reason, problem.message, ask.stage, ask.sample)
    return _read(ask, completion, seed)


def _teller(session: Session, ask: Ask) -> Heard:
    def tell(piece: Delta) -> None:
        if piece.text or piece.reasoning:
            session.emit(MemberDelta(ask.model, ask.sample, piece.text, piece.reasoning, ask.round))

    return tell


def _read(ask: Ask, completion: Completion, seed: int) -> Answer | Failure:
    reasoning, text = completion.reasoning, completion.text
    if text is not None and reasoning is None:
        reasoning, text = split_thinking(text)

    def failure(reason: Any, error: str) -> Failure:
        return Failure(ask.model, reason, f"{ask.model} {error}", ask.stage, ask.sample)

    if completion.finish_reason == "abort":
        return failure("aborted", "was aborted before its answer was complete")
    if text is None or not says_something(text):
        if text is None or reasoning:
            cut = completion.finish_reason == "length"
            return failure(
                "no_answer",
                "was cut at max_tokens while still thinking; raise max_tokens or set thinking_token_budget"
                if cut
                else "only thought and said nothing",
            )
        return failure("empty", "gave an empty answer")
    return Answer(
        model=ask.model,
        sample=ask.sample,
        text=text,
        reasoning=reasoning,
        round=ask.round,
        certainty=certainty_of(completion),
        cut=completion.finish_reason == "length",
        tokens=completion.tokens,
        timing=completion.timing,
        seed=seed,
        call_id=completion.call_id,
    )


def says_something(text: str) -> bool:
    """At least one character that can be seen."""
    if text.isprintable():
        return bool(text.strip())
    return any(character.isprintable() and not character.isspace() for character in text)


def certainty_of(completion: Completion) -> float | None:
    """exp of the mean token log-probability, 0..1; compare it within a model, for tokenizers differ between models."""
    if completion.logprob is None or completion.tokens.completion < 1:
        return None
    return min(1.0, math.exp(completion.logprob / completion.tokens.completion))
