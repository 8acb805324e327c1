"""The guard's margin, found by replaying stored verdicts with both texts graded: no new calls.

The fusion's own code is run with the margin at both ends of its range, which shows what was written and what it was
compared with; what any margin between them would have returned follows.
"""

from __future__ import annotations

from itertools import pairwise

from local_fusion.calibrate.bench import Trial
from local_fusion.calibrate.roles import Roles
from local_fusion.calibrate.space import Space
from local_fusion.calibrate.steps import Step, points, step
from local_fusion.config.schema import FusionSettings

ENDS = (-10.0, 10.0)
MOST_TRIED = 40


async def guard_margin(space: Space, roles: Roles, steps: list[Step], settings: FusionSettings) -> float:
    """The margin that returns the most right answers; the present one unless another is surely better."""
    now = await roles.try_(f"{settings.guard_margin:g}, as now", settings)
    written, answer = [
        await roles.try_(name, space.but(settings, guard_margin=end))
        for name, end in zip(("always what was written", "always the best panel answer"), ENDS, strict=True)
    ]
    margins = sorted({said.verdict.margin for said in now.said if said.verdict is not None})
    if not margins:
        return settings.guard_margin
    best = max(_between(margins), key=lambda margin: (_score(now, written, answer, margin), -abs(margin)))
    tried = await roles.try_(f"{best:g}", space.but(settings, guard_margin=best))
    gain = tried.gain_over(now)
    sure = gain.low > 0
    why = f"{best:g} would return more right answers: {points(gain)}"
    if not sure:
        why = f"no margin is surely better than {settings.guard_margin:g}; {best:g} comes to {points(gain)}"
    question = "By how much must a written answer win against the best panel answer?"
    steps.append(step(question, now, [now, written, answer, tried], tried if sure else now, why))
    return best if sure else settings.guard_margin


def _between(margins: list[float]) -> list[float]:
    """Margins halfway between those that were read, and beyond both ends; not too many of them."""
    inner = [(low + high) / 2 for low, high in pairwise(margins)]
    pace = max(1, len(inner) // MOST_TRIED)
    ends = [max(ENDS[0], margins[0] - 0.5), min(ENDS[1], margins[-1] + 0.5)]
    return [round(value, 2) for value in (ends[0], *inner[::pace], ends[1]) if ENDS[0] <= value <= ENDS[1]]


def _score(now: Trial, written: Trial, answer: Trial, margin: float) -> float:
    """Sum of scores that this margin would have got."""
    total = 0.0
    for place, said in enumerate(now.said):
        returned = now
        if said.verdict is not None:
            returned = written if said.verdict.margin >= margin else answer
        total += returned.scores[place] or 0.0
    return total
