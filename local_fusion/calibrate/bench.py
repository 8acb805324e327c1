"""Tries arrangements on one half of the items; what was tried or asked once is never run again.

Invariant: arrangements are compared over the same items, and nobody gains by an answer that could not be graded: where
the other one's could be, it counts as wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from local_fusion.config.schema import FusionSettings
from local_fusion.evaluate.intervals import Interval, difference, share
from local_fusion.evaluate.items import Item, Said
from local_fusion.evaluate.plans import Arm
from local_fusion.evaluate.runner import Runner
from local_fusion.fusion.recipe import Recipe

_DIGITS = 9


@dataclass(frozen=True)
class Trial:
    """One arrangement over the items. `scores`: 0..1, or None where it could not be graded; `effort`: of an item, in
    GPU-seconds or tokens."""

    name: str
    settings: FusionSettings
    said: tuple[Said, ...]
    scores: tuple[float | None, ...]
    effort: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean score of what could be graded; 0 where nothing could. To compare arrangements, see `mean_over`."""
        return self.mean_over([place for place, score in enumerate(self.scores) if score is not None])

    def mean_over(self, places: Sequence[int]) -> float:
        """Mean score of these items; what could not be graded counts as wrong."""
        return sum(self.scores[place] or 0.0 for place in places) / len(places) if places else 0.0

    @property
    def accuracy(self) -> Interval:
        """The mean with its 95 % interval."""
        return share([score for score in self.scores if score is not None] or [0.0])

    @property
    def cost(self) -> float:
        """Mean effort of an item."""
        return sum(self.effort) / len(self.effort) if self.effort else 0.0

    def gain_over(self, other: Trial, places: Sequence[int] | None = None) -> Interval:
        """Paired difference to another arrangement, see `paired`."""
        return paired(self.scores, other.scores, places)


def paired(
    scores: Sequence[float | None], others: Sequence[float | None], places: Sequence[int] | None = None
) -> Interval:
    """Mean difference with its interval over the items that were graded for the other; those ungraded here are wrong.

    Where there is none nothing is known: 0 in an interval from -1 to 1 (see `graded_places`).
    """
    over = graded_places(others, places)
    if not over:
        return Interval(0.0, -1.0, 1.0)
    return exact(difference([scores[place] or 0.0 for place in over], [others[place] or 0.0 for place in over]))


def exact(found: Interval) -> Interval:
    """Without the noise of floats: equal means differ by 0, and 0 has no sign."""
    return Interval(*(round(value, _DIGITS) + 0.0 for value in (found.value, found.low, found.high)))


def graded_places(scores: Sequence[float | None], places: Sequence[int] | None = None) -> list[int]:
    """Those of the items that were graded."""
    return [place for place in (range(len(scores)) if places is None else places) if scores[place] is not None]


def ranking(trials: Sequence[Trial]) -> list[Trial]:
    """By mean over the items that were graded for any, the highest first; among equals the cheapest, then as they
    came."""
    common = sorted({place for trial in trials for place in graded_places(trial.scores)})
    return sorted(trials, key=lambda trial: (-round(trial.mean_over(common), _DIGITS), round(trial.cost, _DIGITS)))


def best_of(trials: Sequence[Trial]) -> Trial:
    """The first of their ranking. `trials` is not empty."""
    return ranking(trials)[0]


def no_worse(trial: Trial, other: Trial) -> bool:
    """Over the items graded for the other the mean is not lower; False where there is none to tell by."""
    return bool(graded_places(other.scores)) and trial.gain_over(other).value >= 0


@dataclass
class Bench:
    """Runs arrangements over `items`. `by_gpu`: effort is GPU-seconds, else tokens; `stage`: said of each trial."""

    runner: Runner
    items: Sequence[Item]
    by_gpu: bool = False
    stage: str = ""
    _known: dict[str, Trial] = field(default_factory=dict)
    _first: tuple[Said, ...] = ()

    @property
    def unit(self) -> str:
        """What effort is counted in."""
        return "GPU-seconds" if self.by_gpu else "tokens"

    @property
    def tried(self) -> list[Trial]:
        """Everything so far, in order."""
        return list(self._known.values())

    def count_by_gpu(self) -> None:
        """From now on effort is GPU-seconds: every model told some."""
        self.by_gpu = True
        self._known.clear()

    async def trial(self, name: str, settings: FusionSettings, recipe: Recipe) -> Trial:
        """Answer and grade every item by `recipe`; equal settings are tried once. Raises RunError where stopped."""
        key = settings.model_dump_json()
        if recipe.kinds is not None:
            key += recipe.kinds.model_dump_json()
        if key not in self._known:
            self._known[key] = await self._run(name, settings, recipe)
        found = self._known[key]
        return Trial(name, found.settings, found.said, found.scores, found.effort)

    async def _run(self, name: str, settings: FusionSettings, recipe: Recipe) -> Trial:
        arm = Arm(f"{self.stage}: {name}" if self.stage else name, "fusion", {"": recipe})
        answered = await self.runner.answer(arm, self.items, self._first)
        if not self._first:
            self._first = answered.said
            if any(item.match == "pair" and "baseline" not in item.details for item in self.items):
                answered = await self.runner.answer(arm, self.items, self._first)
        effort = [self._effort(said) for said in answered.said]
        return Trial(name, settings, answered.said, tuple(grade.score for grade in answered.grades), tuple(effort))

    def _effort(self, said: Said) -> float:
        return said.gpu_s if self.by_gpu else float(said.tokens.prompt + said.tokens.completion)
