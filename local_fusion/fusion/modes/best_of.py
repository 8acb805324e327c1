"""best-of: the judge picks by label read; the chosen answer is returned as it is.

With client tools the answer must be able to call them, which no member can: the writer answers instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from local_fusion.fusion.first_round import first_round, panel_asks
from local_fusion.fusion.judge import all_the_same, choose
from local_fusion.fusion.modes.merge import merge
from local_fusion.fusion.outcome import Outcome, of_answer
from local_fusion.fusion.session import Session
from local_fusion.types import Answer

WITH_TOOLS = "the request brings tools, which only a writer may call"


async def best_of(session: Session) -> Outcome:
    """Ask the panel, choose one answer."""
    if session.has_tools:
        return await merge(session, WITH_TOOLS)
    answers = await first_round(session, panel_asks(session, final=True))
    return await pick_one(session, answers)


async def pick_one(session: Session, answers: Sequence[Answer], because: str = "") -> Outcome:
    """The judge's choice among answers that are there. `because`: why the judge and not another way."""
    winner = await choose(session, answers)
    if len(answers) == 1:
        why = "only one answer came, so there was nothing to choose"
    elif all_the_same(answers):
        why = f"all {len(answers)} answers are the same, so no judge was asked"
    elif session.choice is None:
        why = f"chosen among {len(answers)} answers by agreement, weight and certainty, for want of a judge"
    else:
        orders = "order" if session.choice.rotations == 1 else "orders"
        paired = ", then a comparison of the best two" if session.choice.paired else ""
        why = f"the judge's choice among {len(answers)} answers, read in {session.choice.rotations} {orders}{paired}"
    return of_answer(session, winner, "best-of", f"{because}: {why}" if because else why)
