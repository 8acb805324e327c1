"""The judge's choice among answers, and what is done where there is no judge to ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from local_fusion.fusion.case import Case
from local_fusion.fusion.events import Chosen
from local_fusion.fusion.fit import judged
from local_fusion.fusion.fold import make_case
from local_fusion.fusion.prior import best_without_judge
from local_fusion.fusion.reading import read_choice
from local_fusion.fusion.session import Session
from local_fusion.types import Answer, Choice

NO_JUDGE = "the judge could not choose; the answer was taken by agreement, weight and certainty"
LATE = "the deadline passed before the judge could choose; the answer was taken by agreement, weight and certainty"


async def choose(session: Session, answers: Sequence[Answer]) -> Answer:
    """The best of the answers by the judge; by agreement, weight and certainty where the judge cannot be had."""
    if all_the_same(answers):
        return answers[0]
    if session.expired:
        return _without(session, answers)
    case = await make_case(session, (session.recipe.judge,), answers, 1, judged)
    if case is None:
        session.note(f"{session.recipe.judge} cannot hold two answers in its context; use a judge with a longer one")
        return _without(session, answers)
    return await choose_from(session, case)


async def choose_from(session: Session, case: Case) -> Answer:
    """As `choose`, over a case that is already made."""
    if all_the_same(case.answers):
        return case.answers[0]
    choice = await read_choice(session, case)
    if choice is None:
        return _without(session, case.answers)
    winner = case.answers[choice.winner]
    session.choice = _over_all(session, case, choice)
    session.emit(Chosen(session.choice, winner.model))
    return winner


def all_the_same(answers: Sequence[Answer]) -> bool:
    """Every answer has the same text: there is nothing to choose."""
    return len({answer.text.strip() for answer in answers}) == 1


def _without(session: Session, answers: Sequence[Answer]) -> Answer:
    session.degrade(LATE if session.expired else NO_JUDGE)
    return best_without_judge(session, answers)


def _over_all(session: Session, case: Case, choice: Choice) -> Choice:
    """The choice in terms of all answers of the receipt: those folded away have probability 0."""
    places = {id(answer): place for place, answer in enumerate(session.answers)}
    probabilities = [0.0] * len(session.answers)
    for answer, probability in zip(case.answers, choice.probabilities, strict=True):
        probabilities[places[id(answer)]] = probability
    winner = places[id(case.answers[choice.winner])]
    return replace(choice, probabilities=tuple(probabilities), winner=winner)
