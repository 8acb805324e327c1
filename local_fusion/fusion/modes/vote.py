"""vote: answers reduced to values and counted; members that cannot change the winner are aborted.

The text returned is the most certain of those that state the winning value. Answers that cannot be compared go to the
judge, and the receipt says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from local_fusion.fusion.ballot import Tally, count_votes, settled
from local_fusion.fusion.first_round import first_round, panel_asks
from local_fusion.fusion.modes.best_of import WITH_TOOLS, pick_one
from local_fusion.fusion.modes.merge import merge
from local_fusion.fusion.outcome import Outcome, of_answer
from local_fusion.fusion.panel import Enough
from local_fusion.fusion.session import Session
from local_fusion.fusion.waves import in_waves
from local_fusion.types import Answer


async def vote(session: Session) -> Outcome:
    """Ask the panel until the winner is settled."""
    if session.has_tools:
        return await merge(session, WITH_TOOLS)
    asks = panel_asks(session, final=True)
    confidence = session.settings.exit_confidence
    if confidence is not None:
        return await by_count(session, await in_waves(session, asks, confidence))
    enough = when_settled(session) if session.settings.early_exit else None
    return await by_count(session, await first_round(session, asks, enough))


def when_settled(session: Session) -> Enough:
    """The early exit of a vote: true as soon as no vote that is still out can change the winner."""

    def enough(answers: Sequence[Answer], out_weight: float) -> bool:
        return settled(session, [*session.answers, *answers], out_weight) is not None

    return enough


async def by_count(
    session: Session, votes: Sequence[Answer], candidates: Sequence[Answer] | None = None, because: str = ""
) -> Outcome:
    """The winner of a vote; where the votes have no common value, the judge's choice among `candidates`."""
    tally = count_votes(session, votes)
    if tally is not None:
        return of_tally(session, tally, because)
    session.note("the answers cannot be compared by value, so the judge chose instead of a vote")
    lead = f"{because}, " if because else ""
    chosen = votes if candidates is None else candidates
    return await pick_one(session, chosen, f"{lead}the answers have no common value to vote on")


def of_tally(session: Session, tally: Tally, because: str = "") -> Outcome:
    """The winning answer and the count in words."""
    why = f"{tally.votes} of {tally.asked} answers agree ({tally.kind})"
    if tally.voters < tally.asked:
        why += f", {tally.asked - tally.voters} could not be read"
    if session.early_exit:
        spared = "would hardly have changed it" if session.settings.exit_confidence else "could not have changed it"
        why += f"; {session.aborted} more {spared} and were stopped"
    return of_answer(session, tally.winners[0], "vote", f"{because}: {why}" if because else why)
