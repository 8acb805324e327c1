"""merge: analysis, then the writer, then the guard: never worse than the best panel answer, as the judge sees it.

While the writer writes, the judge picks the best panel answer: the guard compares with it, and it is what is returned
where no writer succeeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from local_fusion.errors import FusionError
from local_fusion.fusion.analysis import analyse
from local_fusion.fusion.case import Case
from local_fusion.fusion.first_round import first_round, panel_asks
from local_fusion.fusion.fit import written as written_frame
from local_fusion.fusion.fold import make_case
from local_fusion.fusion.guard import guard, has_form
from local_fusion.fusion.judge import all_the_same, choose, choose_from
from local_fusion.fusion.outcome import Outcome, of_answer
from local_fusion.fusion.prior import best_without_judge
from local_fusion.fusion.session import Session
from local_fusion.fusion.writer import Written, write, writing_sampling
from local_fusion.types import Answer, Mode

LATE = "the deadline passed before the final answer was written; this is the best panel answer so far"
FELL_BACK = "no writer gave an answer; this is the best panel answer"
NO_ROOM = "the answers leave no room to write in the context of judge and writer; this is the best panel answer"


async def merge(session: Session, because: str = "") -> Outcome:
    """Ask the panel, write one answer from all. `because`: why this mode and not the one asked for."""
    answers = await first_round(session, panel_asks(session, final=False))
    return await write_from(session, answers, "merge", because)


async def write_from(session: Session, answers: Sequence[Answer], mode: Mode, because: str = "") -> Outcome:
    """Analysis, writer and guard over answers that are there. `mode`: how the outcome is called."""
    lead = f"{because}: " if because else ""
    if session.expired:
        return _fallback(session, answers, best_without_judge(session, answers), mode, lead, LATE)
    if len(answers) > 1 and all_the_same(answers) and session.may_return(answers[0]):
        return of_answer(session, answers[0], mode, f"{lead}all {len(answers)} answers are the same")
    judge, (writer, *others) = session.recipe.judge, session.recipe.writers
    case = await make_case(session, (judge, writer), answers, _room(session), written_frame, others)
    if case is None:
        return _fallback(session, answers, await choose(session, answers), mode, lead, NO_ROOM)
    analysis = await analyse(session, case) if session.settings.analysis else None
    best, written = await _pick_and_write(session, case, analysis)
    spare = None if best is None else _of_form(session, answers, best)
    if written is None or (not written.whole and spare is not None and not spare.cut):
        best = spare or best or await choose_from(session, case)
        return _fallback(session, answers, best, mode, lead, LATE if session.expired else FELL_BACK)
    writer = written.completion.model
    if written.completion.tool_calls:
        return _outcome(written, mode, f"{lead}{writer} calls tools, having read {len(answers)} answers")
    kept = best is None or await guard(session, case, analysis, written.text, writer, best)
    if best is not None and not kept:
        found = "found the best panel answer better" if session.verdict else "could not compare it with the best one"
        why = f"{lead}{writer} wrote from {len(answers)} answers, but the guard {found}"
        return of_answer(session, best, mode, why)
    after = " after an analysis" if session.analysis is not None else ""
    upheld = ", upheld by the guard" if session.verdict is not None else ""
    return _outcome(written, mode, f"{lead}{writer} wrote from {len(answers)} answers{after}{upheld}")


async def _pick_and_write(session: Session, case: Case, analysis: str | None) -> tuple[Answer | None, Written | None]:
    """The best answer, where the guard wants it, and what was written. Both at once, but where the writer would find
    the answers in its cache a moment later, or may call a tool, which needs no guard."""
    if not session.settings.guard:
        return None, await write(session, case, analysis)
    if session.has_tools:
        text = await write(session, case, analysis)
        guarded = text is not None and not text.completion.tool_calls
        return await choose_from(session, case) if guarded else None, text
    cold = analysis is None and session.recipe.judge == session.recipe.writers[0]
    async with asyncio.TaskGroup() as group:
        best = group.create_task(choose_from(session, case))
        if cold:
            await asyncio.wait([best])
        written = await write(session, case, analysis)
    return best.result(), written


def _room(session: Session) -> int:
    """Tokens generated into the shared conversation at most."""
    analysis = session.recipe.judge_sampling.max_tokens if session.settings.analysis else 0
    return analysis + writing_sampling(session, session.recipe.writers[0]).max_tokens


def _fallback(session: Session, answers: Sequence[Answer], best: Answer, mode: Mode, lead: str, phrase: str) -> Outcome:
    """The best panel answer of those that have the form the client asked for. Raises FusionError where none has:
    better none than another."""
    found = _of_form(session, answers, best)
    if found is None:
        short = phrase.split(";")[0]
        message = f"{short}, and no panel answer has the form of the JSON schema; ask again, or raise the limits"
        raise FusionError(message, "writer_failed", session.failures)
    session.degrade(phrase)
    return of_answer(session, found, mode, f"{lead}{phrase}")


def _of_form(session: Session, answers: Sequence[Answer], best: Answer) -> Answer | None:
    """`best`, or the next best by the judge, where it has not the client's form, or is longer than the client allows
    and another is not. None where none has the form."""
    likely = () if session.choice is None else session.choice.probabilities
    chances = dict(zip(map(id, session.answers), likely, strict=False))  # answers that came later have no chance

    def rank(answer: Answer) -> tuple[float, bool, float, float]:
        certainty = answer.certainty or 0.0
        return chances.get(id(answer), 0.0), not answer.cut, session.weight(answer), certainty

    rest = sorted((answer for answer in answers if answer is not best), key=rank, reverse=True)
    too_long: Answer | None = None
    for answer in (best, *rest):
        if too_long is not None and not session.short_enough(answer):
            continue
        if has_form(session, answer):
            if session.short_enough(answer):
                return answer
            too_long = answer
    return too_long


def _outcome(written: Written, mode: Mode, why: str) -> Outcome:
    completion = written.completion
    return Outcome(
        written.text,
        completion.model,
        mode,
        why,
        completion.finish_reason,
        written.reasoning,
        completion.tool_calls,
    )
