"""auto: vote where answers can be compared, else merge with guard; no fusion where one answer is plainly enough.

Its order: a first member certain enough answers alone; comparable answers with a majority are a vote; comparable ones
without go to the judge; free text goes to the writer, unless enough of the answers say the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from local_fusion.fusion.ballot import count_votes, settled
from local_fusion.fusion.first_round import first_round, panel_asks
from local_fusion.fusion.modes.best_of import WITH_TOOLS, pick_one
from local_fusion.fusion.modes.merge import merge, write_from
from local_fusion.fusion.modes.vote import of_tally
from local_fusion.fusion.outcome import Outcome, of_answer
from local_fusion.fusion.panel import Enough
from local_fusion.fusion.session import Session
from local_fusion.types import Answer


async def auto(session: Session) -> Outcome:
    """Choose the way by what the answers are; `fuse` has looked at the kind of the prompt before."""
    if not session.takes_answers:
        return await merge(session, f"auto: {WITH_TOOLS if session.has_tools else 'a JSON schema is for the writer'}")
    asks = panel_asks(session, final=False)
    if session.settings.skip_certainty is not None and len(asks) > 1:
        await first_round(session, asks[:1], required=False)
        alone = _certain(session, session.settings.skip_certainty)
        if alone is not None:
            return alone
        asks = asks[1:]
    enough = _when_settled(session, len(asks)) if session.settings.early_exit else None
    answers = await first_round(session, asks, enough)
    return await by_kind(session, answers)


async def by_kind(session: Session, answers: Sequence[Answer]) -> Outcome:
    """Vote, choose or write, by what the answers are."""
    if len(answers) == 1 and session.may_return(answers[0]):
        return of_answer(session, answers[0], "auto", "auto: only one answer came")
    tally = count_votes(session, answers, strict=True)
    if tally is not None and session.may_return(tally.winners[0]):
        if tally.majority or tally.share >= session.settings.skip_agreement:
            return of_tally(session, tally, "auto")
        return await pick_one(session, answers, f"auto: each answer is a {tally.kind}, but without a majority")
    common, count = Counter(answer.text.strip() for answer in answers).most_common(1)[0]
    same = next(answer for answer in answers if answer.text.strip() == common)
    if count > 1 and count / len(answers) >= session.settings.skip_agreement and session.may_return(same):
        return of_answer(session, same, "auto", f"auto: {count} of {len(answers)} answers are the same")
    return await write_from(session, answers, "merge", "auto: the answers are free text")


def _certain(session: Session, least: float) -> Outcome | None:
    """The first member's answer where it is whole and certain enough."""
    for answer in session.answers:
        if answer.certainty is not None and answer.certainty >= least and not answer.cut and session.may_return(answer):
            certain = f"{answer.certainty:.2f}, {least:.2f} asked"
            why = f"auto: {answer.model} is certain ({certain}), so no one else was asked"
            return of_answer(session, answer, "auto", why)
    return None


def _when_settled(session: Session, asked: int) -> Enough:
    """A majority of all that are asked agrees, and no vote that is out can change it."""
    total = asked + len(session.answers)

    def enough(answers: Sequence[Answer], out_weight: float) -> bool:
        tally = settled(session, [*session.answers, *answers], out_weight, strict=True)
        return tally is not None and 2 * tally.votes > total

    return enough
