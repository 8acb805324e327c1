"""Which recipe won for each kind of prompt, and whether there is enough evidence to keep it. Pure.

A recipe is kept for a kind only where at least `LEAST_PROMPTS` prompts of it tell, and it is surely better than the
present one (its interval lies above 0), or no worse on the mean, surely not worse by `MARGIN`, and cheaper.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_fusion.calibrate.steps import percent, points
from local_fusion.evaluate.intervals import Interval, difference

LEAST_PROMPTS = 30
"""With none of 30 lost, a loss on more than a tenth would have shown (rule of three)."""
MARGIN = 0.05
_RESAMPLES = 2000


@dataclass(frozen=True)
class Option:
    """A way to answer. `recipe`: settings to put over the fusion's; `scores`, `effort`: by number of the prompt, of
    those that were graded."""

    name: str
    recipe: dict[str, Any]
    scores: Mapping[int, float]
    effort: Mapping[int, float]

    def cost(self, places: Sequence[int]) -> float:
        """Mean effort over these prompts."""
        known = [self.effort[place] for place in places if place in self.effort]
        return sum(known) / len(known) if known else 0.0

    def over(self, places: Sequence[int]) -> list[int]:
        """Those of the prompts that were graded."""
        return [place for place in places if place in self.scores]


@dataclass(frozen=True)
class Winner:
    """What is kept for a kind; `option` None: nothing, the fusion stays as it is. `prompts`: that tell."""

    option: Option | None
    prompts: int
    why: str


def winner(places: Sequence[int], present: Option, options: Sequence[Option], least: int = LEAST_PROMPTS) -> Winner:
    """The option to keep for the prompts at `places`."""
    told = len(present.over(places))
    if told < least:
        return Winner(None, max(1, told), f"{told} graded prompts are too few to tell, {least} are wanted")
    kept: list[tuple[tuple[float, float], Option, Interval, int]] = []
    for option in options:
        found = _compare(places, option, present, least)
        if found is None:
            continue
        gain, count = found
        mine, theirs = option.over(places), present.over(places)
        cheaper = option.cost(mine) < present.cost(theirs)
        if gain.low > 0 or (gain.value >= 0 and gain.low >= -MARGIN and cheaper):
            kept.append(((-round(gain.value, 9), option.cost(mine)), option, gain, count))
    if not kept:
        return Winner(None, told, f"nothing was surely better than {present.name}")
    _, option, gain, count = min(kept, key=lambda one: one[0])
    mean = sum(option.scores[place] for place in option.over(places)) / len(option.over(places))
    return Winner(option, count, f"{option.name} right {percent(mean)} on {count} prompts, {points(gain)}")


def _compare(places: Sequence[int], one: Option, other: Option, least: int) -> tuple[Interval, int] | None:
    """Paired where enough prompts had both; else of two groups; None where either is too small."""
    both = [place for place in places if place in one.scores and place in other.scores]
    if len(both) >= least:
        return difference([one.scores[place] for place in both], [other.scores[place] for place in both]), len(both)
    mine, theirs = one.over(places), other.over(places)
    if len(mine) < least or len(theirs) < least:
        return None
    return apart([one.scores[place] for place in mine], [other.scores[place] for place in theirs]), len(mine)


def apart(scores: Sequence[float], others: Sequence[float]) -> Interval:
    """Difference of the means of two groups of prompts, bootstrapped in each (percentile method)."""
    draw = random.Random("bootstrap of two groups")

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    resampled = sorted(
        mean(draw.choices(scores, k=len(scores))) - mean(draw.choices(others, k=len(others))) for _ in range(_RESAMPLES)
    )
    value = mean(scores) - mean(others)
    return Interval(value, resampled[int(0.025 * _RESAMPLES)], resampled[int(0.975 * _RESAMPLES)])
