"""What a calibration tells of itself: each question it asked, what was tried, by which figures it chose. Frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from local_fusion.calibrate.bench import Trial
from local_fusion.evaluate.intervals import Interval


@dataclass(frozen=True)
class Tried:
    """One arrangement. `against`: paired difference to the step's reference; None for the reference itself."""

    name: str
    accuracy: Interval
    against: Interval | None
    effort: float
    chosen: bool


@dataclass(frozen=True)
class Step:
    """One question. `reference`: name of what the differences are against; `why`: the choice in a sentence."""

    question: str
    reference: str
    tried: tuple[Tried, ...]
    why: str


def step(question: str, reference: Trial, trials: Sequence[Trial], chosen: Trial | None, why: str) -> Step:
    """A step of these trials; `chosen` None: it only informs."""
    tried = tuple(
        Tried(
            name=trial.name,
            accuracy=trial.accuracy,
            against=None if trial.name == reference.name else trial.gain_over(reference),
            effort=trial.cost,
            chosen=chosen is not None and trial.name == chosen.name,
        )
        for trial in trials
    )
    return Step(question, reference.name, tried, why)


def percent(value: float) -> str:
    """A share as people read it."""
    return f"{100 * value:.1f} %"


def points(interval: Interval) -> str:
    """A difference with its interval, in points."""
    return f"{100 * interval.value:+.1f} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f}) points"
