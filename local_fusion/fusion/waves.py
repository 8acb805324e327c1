"""A vote asked in waves: one answer of every seat, then one more of each, until the leader is sure enough.

The rule is that of Adaptive-Consistency (Aggarwal et al., 2023, "Let's Sample Step by Step"): with weights w1 and w2 of
the two leading values, stop when P(p1 > p2) under Beta(1 + w1, 1 + w2) has reached the wanted confidence. Here a
vote weighs its seat's weight times its certainty, as in the count itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from local_fusion.fusion.ballot import Tally, count_votes, settled
from local_fusion.fusion.events import EarlyExit
from local_fusion.fusion.first_round import first_round, missing_answers
from local_fusion.fusion.member import Ask
from local_fusion.fusion.session import Session
from local_fusion.types import Answer

_STEPS = 256


async def in_waves(session: Session, asks: Sequence[Ask], confidence: float) -> list[Answer]:
    """Answers of as many waves as it takes. Raises FusionError as `first_round` does, when all have been asked."""
    waves = [list(wave) for _, wave in groupby(sorted(asks, key=lambda ask: ask.sample), key=lambda ask: ask.sample)]
    answers: list[Answer] = []
    for place, wave in enumerate(waves):
        later = [ask for rest in waves[place + 1 :] for ask in rest]
        weight_to_come = sum(ask.weight for ask in later)

        def enough(came: Sequence[Answer], out_weight: float, to_come: float = weight_to_come) -> bool:
            return settled(session, [*session.answers, *came], out_weight + to_come) is not None

        answers = await first_round(session, wave, enough if session.settings.early_exit else None, not later)
        if (
            later
            and len(answers) >= session.settings.quorum
            and (settled(session, answers, weight_to_come) or sure(count_votes(session, answers)) >= confidence)
        ):
            _stop(session, len(later))
            break
    return answers


def sure(tally: Tally | None) -> float:
    """Probability that the leading value is the likelier of the two leading ones; 0 where nothing was counted."""
    if tally is None:
        return 0.0
    return leads(tally.weight, tally.weight - tally.lead)


def leads(first: float, second: float) -> float:
    """P(p > 1/2) for p ~ Beta(1 + first, 1 + second), by Simpson's rule, to 1e-6 for weights up to 100.

    Over u with 1 - p = u³, since the density's slope has no bound at p = 1 where `second` is a fraction.
    """
    constant = math.lgamma(first + second + 2) - math.lgamma(first + 1) - math.lgamma(second + 1)

    def density(u: float) -> float:
        if u == 0.0:
            return 0.0
        rest = u * u * u
        return 3 * u * u * math.exp(constant + first * math.log1p(-rest) + second * math.log(rest))

    last = math.cbrt(0.5)
    step = last / _STEPS
    inner = sum((4 if k % 2 else 2) * density(k * step) for k in range(1, _STEPS))
    return min(1.0, (density(0.0) + inner + density(last)) * step / 3)


def _stop(session: Session, spared: int) -> None:
    session.early_exit = True
    session.aborted += spared
    session.emit(EarlyExit(spared))
    missing_answers(session)
