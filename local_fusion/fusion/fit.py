"""Whether a case fits the readers' context: proved by bytes where that is enough, else measured and cut.

A token is at least one byte, so that short texts need no tokenizer. Whatever was cut is said in the receipt's notes.
"""

from __future__ import annotations

from collections.abc import Sequence

from local_fusion.errors import CallError
from local_fusion.fusion.case import Case
from local_fusion.fusion.cutting import Frame, Readers, TooMany, cut_to_fit
from local_fusion.fusion.session import Session
from local_fusion.fusion.sizes import TEMPLATE_TOKENS, byte_length, prompt_bound
from local_fusion.types import EngineInfo, Message


async def readers_of(session: Session, models: Sequence[str], room: int, others: Sequence[str] = ()) -> Readers:
    """`room`: tokens to keep for what is generated, at most half the context. `others`: only their control tokens."""
    infos = {model: info for model in (*models, *others) if (info := await _info(session, model)) is not None}
    specials = tuple(dict.fromkeys(token for info in infos.values() for token in info.special_tokens))
    context = min((infos[model].context for model in models if model in infos), default=None)
    limit = None if context is None else context - min(room, context // 2)
    return Readers(tuple(dict.fromkeys(models)), limit, specials)


async def _info(session: Session, model: str) -> EngineInfo | None:
    try:
        return await session.info(model)
    except CallError:  # its own calls will fail and be entered
        return None


async def fitted(session: Session, readers: Readers, case: Case, frame: Frame) -> Case | TooMany:
    """The case with caps where they are needed, or how many answers fit at once."""
    most = session.settings.max_candidate_tokens
    texts = [candidate.text for candidate in case.brief().candidates]
    capped = most is not None and any(byte_length(text) > most for text in texts)
    if not capped and (readers.limit is None or _surely_fits(session, readers.limit, case, frame)):
        return case
    try:
        return await cut_to_fit(session, readers, case, frame)
    except CallError:  # nobody can measure: let the call itself say whether it fits
        return case


def judged(session: Session, case: Case) -> tuple[Message, ...]:
    """The longest conversation in which the judge chooses among a case's answers."""
    brief = case.brief()
    return session.recipe.prompts.pair(brief, brief.labels[0], brief.labels[-1], session.settings.criteria)


def written(session: Session, case: Case) -> tuple[Message, ...]:
    """The longest conversation from analysis to guard, with nothing generated yet."""
    brief = case.brief()
    return session.recipe.prompts.guard(brief, "", "", brief.labels[0], False, session.settings.criteria)


def _surely_fits(session: Session, limit: int, case: Case, frame: Frame) -> bool:
    if frame not in (judged, written):
        return prompt_bound(frame(session, case)) <= limit
    brief, around = case.brief(), session.recipe.frame_bytes
    size = TEMPLATE_TOKENS + around.bare
    size += sum(byte_length(turn.content) + around.turn for turn in brief.request)
    size += sum(byte_length(candidate.text) + around.answer for candidate in brief.candidates)
    return size <= limit
