"""debate: only where answers differ; members see the others' answers, anonymous, and may revise; then vote or merge.

First-round answers still count, for a debate can talk a member out of the truth. A member whose revision fails keeps
its answer. Who changed its mind is recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from local_fusion.fusion.ballot import count_votes
from local_fusion.fusion.case import name_of
from local_fusion.fusion.first_round import first_round, panel_asks, reasons
from local_fusion.fusion.judge import all_the_same
from local_fusion.fusion.member import Ask, Prompt
from local_fusion.fusion.modes.best_of import WITH_TOOLS
from local_fusion.fusion.modes.merge import merge, write_from
from local_fusion.fusion.modes.vote import by_count
from local_fusion.fusion.others import shown_to
from local_fusion.fusion.outcome import Outcome, of_answer
from local_fusion.fusion.panel import Panel
from local_fusion.fusion.prior import best_without_judge
from local_fusion.fusion.session import Session
from local_fusion.prompts import Brief, neutralise
from local_fusion.types import Answer, Message

MOST_CANDIDATES = 26


async def debate(session: Session) -> Outcome:
    """Ask the panel, let it revise, decide."""
    if session.has_tools:
        return await merge(session, WITH_TOOLS)
    voting = session.settings.debate_then == "vote"
    asks = panel_asks(session, final=voting)
    first = await first_round(session, asks)
    if agree(session, first) and (voting or session.may_return(first[0])):
        why = f"all {len(first)} answers agree, so there was no debate"
        return of_answer(session, best_without_judge(session, first), "debate", why)
    if len(first) == 1:
        return await write_from(session, first, "debate", "only one answer came, so there was no debate")
    latest = await _rounds(session, {(ask.model, ask.sample): ask for ask in asks}, first)
    changed = _changed(session, first, latest)
    session.changed_minds += changed
    because = f"after a debate in which {len(changed)} of {len(first)} changed their answer"
    said = _distinct([*latest, *first])[:MOST_CANDIDATES]
    if voting:
        return replace(await by_count(session, [*latest, *first], said, because), mode="debate")
    return await write_from(session, said, "debate", because)


async def _rounds(session: Session, seats: Mapping[tuple[str, int], Ask], first: Sequence[Answer]) -> Sequence[Answer]:
    """The latest answer of each member after the rounds of revision."""
    latest = first
    for turn in range(1, session.settings.rounds + 1):
        if session.expired:
            session.degrade(f"the deadline passed before round {turn} of the debate")
            break
        latest = await _revised(session, seats, latest, turn)
        if agree(session, latest):
            break
    return latest


async def _revised(
    session: Session, seats: Mapping[tuple[str, int], Ask], answers: Sequence[Answer], turn: int
) -> Sequence[Answer]:
    asks = [
        replace(
            seats[own.model, own.sample], stage="revise", round=turn, prompt=_prompt(session, own, answers, seats, turn)
        )
        for own in answers
    ]
    panel = Panel(session, asks)
    panel.start()
    result = await panel.result()
    session.answers += result.answers
    session.failures += result.failures
    if result.failures:
        told = reasons(result.failures)
        session.degrade(f"{len(result.failures)} of {len(asks)} revisions of round {turn} are missing ({told})")
    revised = {(answer.model, answer.sample): answer for answer in result.answers}
    return [revised.get((own.model, own.sample), own) for own in answers]


def _prompt(
    session: Session, own: Answer, answers: Sequence[Answer], seats: Mapping[tuple[str, int], Ask], turn: int
) -> Prompt:
    others = [answer for answer in answers if answer is not own]
    ask = seats[own.model, own.sample]

    async def prompt() -> tuple[Message, ...]:
        def build(brief: Brief, specials: Sequence[str]) -> tuple[Message, ...]:
            return session.recipe.prompts.revise(session.request.messages, neutralise(own.text, specials), brief)

        return await shown_to(session, ask, others, turn, build)

    return prompt


def _changed(session: Session, first: Sequence[Answer], latest: Sequence[Answer]) -> list[str]:
    """Members whose value, or else whose words, are no longer those of the first round."""
    counts = Counter(answer.model for answer in first)
    return [
        name_of(before, counts[before.model] > 1)
        for before, after in zip(first, latest, strict=True)
        if before is not after and not agree(session, [before, after])
    ]


def _distinct(answers: Sequence[Answer]) -> list[Answer]:
    """One answer per text, the first of each."""
    return list({answer.text.strip(): answer for answer in reversed(answers)}.values())[::-1]


def agree(session: Session, answers: Sequence[Answer]) -> bool:
    """All say the same, by value or word for word."""
    tally = count_votes(session, answers, strict=True)
    return all_the_same(answers) or (tally is not None and tally.unanimous)
