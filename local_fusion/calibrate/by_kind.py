"""Which recipe won for each kind of prompt, and whether there is enough evidence to keep it. Pure.

A recipe is kept for a kind only where at least `LEAST_PROMPTS` prompts of it tell, and it is surely better than the
present one (its interval lies above 0), or no worse on the mean, surely not worse by `MARGIN`, and cheaper. Where the
two were given different prompts that is observation, not a paired comparison: then only the first counts.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_fusion.calibrate.bench import exact
from local_fusion.calibrate.steps import percent, points
from local_fusion.evaluate.intervals import Interval, difference

LEAST_PROMPTS = 30
"""With none of 30 lost, a loss on more than a tenth would have shown (rule of three)."""
MARGIN = 0.05
COVERED = 0.95
"""Share of the graded prompts that an option must tell of; the others could be those it would fail on."""
_RESAMPLES = 2000


@dataclass(frozen=True)
class Option:
    """A way to answer. `recipe`: settings to put over the fusion's; `scores`, `effort`: by number of the prompt, of
    those that were graded; `wanted`: those that should have been, of what it tells of."""

    name: str
    recipe: dict[str, Any]
    scores: Mapping[int, float]
    effort: Mapping[int, float]
    wanted: frozenset[int] = frozenset()

    def covers(self, places: Sequence[int]) -> bool:
        """It tells of nearly all of these that it should tell of."""
        wanted = self.wanted.intersection(places)
        return len(wanted & self.scores.keys()) >= COVERED * len(wanted)

    def cost(self, places: Sequence[int]) -> float:
        """Mean effort over these prompts."""
        known = [self.effort[place] for place in places if place in self.effort]
        return sum(known) / len(known) if known else 0.0

    def over(self, places: Sequence[int]) -> list[int]:
        """Those of the prompts that were graded."""
        return [place for place in places if place in self.scores]


@dataclass(frozen=True)
class Winner:
    """What is kept for a kind; `option` None: nothing, the fusion stays as it is. `prompts`: that tell; `paired`: the
    same prompts told of both."""

    option: Option | None
    prompts: int
    why: str
    paired: bool = True


@dataclass(frozen=True)
class Compared:
    """One option against another. `prompts`: of the one; `paired`: the same prompts told of both."""

    gain: Interval
    prompts: int
    paired: bool


def winner(places: Sequence[int], present: Option, options: Sequence[Option], least: int = LEAST_PROMPTS) -> Winner:
    """The option to keep for the prompts at `places`."""
    told = len(present.over(places))
    if told < least:
        return Winner(None, max(1, told), f"{told} graded prompts are too few to tell, {least} are wanted")
    kept: list[tuple[tuple[float, float], Option, Compared]] = []
    for option in options:
        found = compare(places, option, present, least)
        if found is None:
            continue
        cheaper = option.cost(option.over(places)) < present.cost(present.over(places))
        as_good = found.paired and found.gain.value >= 0 and found.gain.low >= -MARGIN
        if found.gain.low > 0 or (as_good and cheaper):
            kept.append(((-found.gain.value, option.cost(option.over(places))), option, found))
    if not kept:
        return Winner(None, told, f"nothing was surely better than {present.name}")
    _, option, found = min(kept, key=lambda one: one[0])
    mean = sum(option.scores[place] for place in option.over(places)) / len(option.over(places))
    why = f"{option.name} right {percent(mean)} on {found.prompts} prompts, {told_of(found)}"
    return Winner(option, found.prompts, why, found.paired)


def compare(places: Sequence[int], one: Option, other: Option, least: int) -> Compared | None:
    """Paired where enough prompts had both; else of two groups; None where either is too small."""
    both = [place for place in places if place in one.scores and place in other.scores]
    if len(both) >= least:
        gain = difference([one.scores[place] for place in both], [other.scores[place] for place in both])
        return Compared(exact(gain), len(both), True)
    mine, theirs = one.over(places), other.over(places)
    if len(mine) < least or len(theirs) < least:
        return None
    gain = apart([one.scores[place] for place in mine], [other.scores[place] for place in theirs])
    return Compared(gain, len(mine), False)


def told_of(found: Compared) -> str:
    """The difference in words; what was only observed is called so."""
    return points(found.gain) if found.paired else f"{points(found.gain)} between different prompts (observed)"


def apart(scores: Sequence[float], others: Sequence[float]) -> Interval:
    """Difference of the means of two groups of prompts, bootstrapped in each (percentile method)."""
    draw = random.Random("bootstrap of two groups")

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    resampled = sorted(
        mean(draw.choices(scores, k=len(scores))) - mean(draw.choices(others, k=len(others))) for _ in range(_RESAMPLES)
    )
    value = mean(scores) - mean(others)
    return exact(Interval(value, resampled[int(0.025 * _RESAMPLES)], resampled[int(0.975 * _RESAMPLES)]))
