"""Bootstrap intervals of a share of right answers, and of the difference of two arms on the same questions.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, percentile method, chapter 13.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval; shares of 1, differences in -1..1."""

    value: float
    low: float
    high: float


def share(right: Sequence[bool], resamples: int = 2000, seed: int = 0) -> Interval:
    """Share of right answers. Raises ValueError on an empty sequence."""
    return _percentiles([float(flag) for flag in right], resamples, seed)


def difference(right: Sequence[bool], other: Sequence[bool], resamples: int = 2000, seed: int = 0) -> Interval:
    """Paired difference of two arms: share of `right` minus share of `other`, question by question.

    Raises ValueError where the arms differ in length or are empty.
    """
    pairs = [float(a) - float(b) for a, b in zip(right, other, strict=True)]
    return _percentiles(pairs, resamples, seed)


def _percentiles(values: Sequence[float], resamples: int, seed: int) -> Interval:
    if not values:
        raise ValueError("an interval needs at least one value")
    source = random.Random(f"bootstrap:{seed}")
    count = len(values)
    means = sorted(sum(source.choices(values, k=count)) / count for _ in range(resamples))
    return Interval(
        sum(values) / count, means[int(0.025 * resamples)], means[min(resamples - 1, int(0.975 * resamples))]
    )
