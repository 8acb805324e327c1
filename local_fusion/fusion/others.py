"""What a panel member is shown of others' answers: anonymous, shuffled for it alone, fenced, cut to its context."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from local_fusion.errors import ContextExceeded
from local_fusion.fusion.calls import seed_of
from local_fusion.fusion.case import Case
from local_fusion.fusion.cutting import TooMany
from local_fusion.fusion.fit import fitted, readers_of
from local_fusion.fusion.member import Ask
from local_fusion.fusion.session import Session
from local_fusion.prompts import Brief
from local_fusion.types import Answer, Message

Build = Callable[[Brief, Sequence[str]], tuple[Message, ...]]
"""Makes the member's conversation of a brief and of the member's own control tokens."""


async def shown_to(
    session: Session, ask: Ask, answers: Sequence[Answer], turn: int, build: Build
) -> tuple[Message, ...]:
    """The conversation for `ask` with `answers` in it. Raises ContextExceeded where they do not fit even shortened."""
    readers = await readers_of(session, (ask.model,), ask.sampling.max_tokens)
    seed = seed_of(session.request, ask.model, ask.sample, "order", turn)
    case = Case((), tuple(answers), seed, specials=readers.specials)
    fit = await fitted(session, readers, case, lambda _, case: build(case.brief(), readers.specials))
    if isinstance(fit, TooMany):
        raise ContextExceeded(f"{ask.model}: its context does not hold the other members' answers")
    return build(fit.brief(), readers.specials)
