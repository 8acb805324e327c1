"""A panel and its analysis without a final answer: for a model outside that reads them and writes itself."""

from __future__ import annotations

from local_fusion.engine import Engines
from local_fusion.fusion.analysis import analyse
from local_fusion.fusion.events import Listener
from local_fusion.fusion.first_round import first_round, panel_asks
from local_fusion.fusion.fit import written as written_frame
from local_fusion.fusion.fold import make_case
from local_fusion.fusion.fuse import run
from local_fusion.fusion.outcome import Outcome
from local_fusion.fusion.recipe import Recipe
from local_fusion.fusion.session import Session
from local_fusion.types import Fused, Request

LATE = "the deadline passed before the answers were analysed"
NO_ROOM = "the answers do not fit the judge's context: there is no analysis"


async def consult(request: Request, recipe: Recipe, engines: Engines, listener: Listener | None = None) -> Fused:
    """The panel's answers and the analysis, in the receipt; the text is empty. Raises FusionError where fewer answers
    came than the quorum. Cancelling aborts every call."""
    return await run(request, recipe, engines, listener, _consulted)


async def _consulted(session: Session) -> Outcome:
    answers = await first_round(session, panel_asks(session, final=False))
    judge = session.recipe.judge
    if session.expired:
        session.degrade(LATE)
    elif session.settings.analysis:
        room = session.recipe.judge_sampling.max_tokens
        case = await make_case(session, (judge,), answers, room, written_frame)
        if case is None:
            session.degrade(NO_ROOM)
        else:
            await analyse(session, case)
    read = " and an analysis" if session.analysis is not None else ""
    return Outcome("", judge, "merge", f"{len(answers)} answers{read} for the outer model to write from")
