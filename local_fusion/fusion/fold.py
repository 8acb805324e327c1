"""Answers that do not fit one prompt are folded: windows of them, the winner of each goes on, until the rest fits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from local_fusion.fusion.calls import seed_of
from local_fusion.fusion.case import Case, readable
from local_fusion.fusion.cutting import Frame, Readers, TooMany
from local_fusion.fusion.fit import fitted, judged, readers_of
from local_fusion.fusion.prior import best_without_judge
from local_fusion.fusion.reading import gather, read_choice
from local_fusion.fusion.session import Session
from local_fusion.types import Answer


async def make_case(
    session: Session,
    models: Sequence[str],
    answers: Sequence[Answer],
    room: int,
    frame: Frame,
    others: Sequence[str] = (),
) -> Case | None:
    """The answers as `models` can be shown them within `frame`, beside `room` tokens of generation; fewer answers where
    they had to be folded. None where the readers' context does not hold even two.

    `others` may have to read it too, where `models` fail: their control tokens are made plain, their context is not
    regarded.
    """
    readers = await readers_of(session, models, room, others)
    windows = 0
    while True:
        case = _case(session, readers, answers)
        fit = await fitted(session, readers, case, frame)
        if isinstance(fit, Case):
            return fit
        if fit.window < 2:
            return None
        groups = _windows(answers, min(fit.window, len(answers) - 1))
        session.note(f"{len(answers)} answers did not fit the judge's context: folded in {len(groups)} windows")
        winners = await gather(
            [_winner(session, readers, group, windows + place) for place, group in enumerate(groups)]
        )
        windows += len(groups)
        answers = [winner for winner in winners if winner is not None]


def _case(session: Session, readers: Readers, answers: Sequence[Answer]) -> Case:
    seed = seed_of(session.request, "", 0, "order")
    return Case(readable(session.request.messages), tuple(answers), seed, specials=readers.specials)


def _windows(answers: Sequence[Answer], size: int) -> list[Sequence[Answer]]:
    """Windows as equal as can be, none longer than `size`."""
    count = -(-len(answers) // max(2, size))
    edges = [len(answers) * place // count for place in range(count + 1)]
    return [answers[start:end] for start, end in pairwise(edges)]


async def _winner(session: Session, readers: Readers, answers: Sequence[Answer], window: int) -> Answer:
    if len(answers) == 1 or session.expired:
        return best_without_judge(session, answers)
    fit = await fitted(session, readers, _case(session, readers, answers), judged)
    if isinstance(fit, TooMany):
        return best_without_judge(session, answers)
    choice = await read_choice(session, fit, "fold", rotations=1, window=window)
    return best_without_judge(session, answers) if choice is None else answers[choice.winner]
