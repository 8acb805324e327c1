"""Chooses by reading labels: one token per order of the candidates, no prose to parse.

Each read is normalised over its labels; the log-probabilities are then averaged over the orders (a geometric mean: a
liking for a position adds to a letter's log-probability whatever stands there, and over a whole turn of the orders it
cancels, which an arithmetic mean does not do). Source: judge as distribution, arXiv 2503.03064. Near ties are
decided by a pair read of the two, in both orders.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from local_fusion.errors import CallError
from local_fusion.fusion.case import Case
from local_fusion.fusion.session import Session
from local_fusion.types import Answer, Choice, Message, Stage

T = TypeVar("T")
FLOOR = -20.0  # log-probability of a label that the engine did not see; e^-20 leaves the others their say
SHARED_CHARACTERS = 2_000  # a request this long is worth one read's wait, for the other orders then find it cached


async def read_choice(
    session: Session, case: Case, stage: Stage = "pick", rotations: int | None = None, window: int = 0
) -> Choice | None:
    """A distribution over `case.answers`, or None where no read came back. Failures are entered.

    Answers of the same text share their mass, so that saying the same thing twice does not split a vote.
    """
    judge, count = session.recipe.judge, len(case.answers)
    turns = min(session.settings.rotations if rotations is None else rotations, count)
    orders = [turn * count // turns for turn in range(turns)]
    reads = [_read_order(session, case, stage, order, window + turn) for turn, order in enumerate(orders)]
    warm = sum(len(message.content) for message in case.request) >= SHARED_CHARACTERS
    found = [read for read in await gather(reads, warm) if read is not None]
    if not found:
        return None
    mean = [sum(column) / len(found) for column in zip(*found, strict=True)]
    probabilities = [math.exp(value) for value in log_softmax(mean)]
    masses = _masses(case.answers, probabilities)
    ranked = sorted(masses, key=lambda index: masses[index], reverse=True)
    winner, paired = ranked[0], False
    near = len(ranked) > 1 and masses[ranked[0]] - masses[ranked[1]] < session.settings.tie_margin
    if near and stage == "pick" and not (count == 2 and len(found) == 2) and not session.expired:
        decided = await _read_pair(session, case, ranked[0], ranked[1])
        winner, paired = (winner, False) if decided is None else (decided, True)
    return Choice(stage, judge, tuple(probabilities), winner, len(found), paired)


async def _read_order(session: Session, case: Case, stage: Stage, order: int, sample: int) -> list[float] | None:
    """Log-probabilities by index of the answer, normalised over the labels; None where the read failed."""
    brief = case.brief(order)
    messages = session.recipe.prompts.pick(brief, session.settings.criteria)
    read = await read_labels(session, stage, messages, brief.labels, sample)
    if read is None:
        return None
    by_index = [0.0] * len(case.answers)
    for candidate, value in zip(brief.candidates, log_softmax(read), strict=True):
        by_index[candidate.index] = value
    return by_index


async def _read_pair(session: Session, case: Case, left: int, right: int) -> int | None:
    """The better of two by reads in both orders; a draw stays with `left`, the list's own first."""
    brief = case.brief()
    labels = brief.label_of(left), brief.label_of(right)
    messages = [
        session.recipe.prompts.pair(brief, first, second, session.settings.criteria)
        for first, second in (labels, labels[::-1])
    ]
    reads = await gather([read_labels(session, "pair", turns, labels, n) for n, turns in enumerate(messages)])
    margins = [read[0] - read[1] for read in reads if read is not None]
    if not margins:
        return None
    return left if sum(margins) >= 0 else right


async def read_labels(
    session: Session, stage: Stage, messages: tuple[Message, ...], labels: tuple[str, ...], sample: int
) -> list[float] | None:
    """Log-probabilities read by the judge, none under the floor; a failure is entered and gives None."""
    judge = session.recipe.judge
    try:
        read = await session.label_read(stage, judge, sample, messages, labels)
    except CallError as problem:
        session.failed(judge, stage, problem, sample)
        return None
    return [value if value > FLOOR else FLOOR for value in read.logprobs]  # NaN is not above the floor either


async def gather(works: Sequence[Coroutine[Any, Any, T]], first_alone: bool = False) -> list[T]:
    """All at once; `first_alone`: the first one before the others, where they will find its prefix in the cache."""
    if len(works) == 1:
        return [await works[0]]
    head = [await works[0]] if first_alone else []
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works[len(head) :]]
    return head + [task.result() for task in tasks]


def log_softmax(values: Sequence[float]) -> list[float]:
    top = max(values)
    norm = top + math.log(sum(math.exp(value - top) for value in values))
    return [value - norm for value in values]


def _masses(answers: Sequence[Answer], probabilities: Sequence[float]) -> dict[int, float]:
    """Probability by distinct text, under the index of its likeliest answer."""
    groups: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        groups.setdefault(answer.text.strip(), []).append(index)
    return {
        max(indices, key=lambda index: probabilities[index]): sum(probabilities[index] for index in indices)
        for indices in groups.values()
    }
