"""Intervals of a share of right answers, and of the difference of two arms on the same questions.

A share of answers that are right or wrong has Wilson's score interval, which holds what it says near none and all too,
where a bootstrap has no width: E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference,
JASA 22, 1927. Means of marks between, and paired differences, have percentile bootstraps: Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

_Z = 1.959964  # standard normal, two-sided 5 %
_POWER = 1.96 + 0.84  # standard normal: two-sided 5 %, power 80 %
_DRAWS = 4_000_000  # values drawn for one interval at most; sets of thousands need fewer resamples
_FEWEST = 400


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval; shares of 1, differences in -1..1."""

    value: float
    low: float
    high: float


def share(right: Sequence[float], resamples: int = 2000, seed: int = 0) -> Interval:
    """Share of right answers (Wilson), or mean of scores in 0..1 of which some lie between (bootstrap: `resamples`,
    `seed`). Raises ValueError on an empty sequence."""
    scores = [float(flag) for flag in right]
    if scores and all(score in (0.0, 1.0) for score in scores):
        return _wilson(sum(scores), len(scores))
    return _percentiles(scores, resamples, seed)


def difference(right: Sequence[float], other: Sequence[float], resamples: int = 2000, seed: int = 0) -> Interval:
    """Paired difference of two arms: share (or mean score) of `right` minus that of `other`, question by question.

    Raises ValueError where the arms differ in length or are empty.
    """
    pairs = [float(a) - float(b) for a, b in zip(right, other, strict=True)]
    return _percentiles(pairs, resamples, seed)


def least_difference(right: Sequence[float], other: Sequence[float]) -> float | None:
    """The smallest true difference of two arms that so many paired questions would show in four runs of five, at the
    5 % level: 2.8 standard errors of the paired difference. None where the arms never differ."""
    pairs = [float(a) - float(b) for a, b in zip(right, other, strict=True)]
    if len(pairs) < 2 or len(set(pairs)) < 2:
        return None
    return _POWER * stdev(pairs) / math.sqrt(len(pairs))


def _wilson(right: float, count: int) -> Interval:
    value, square = right / count, _Z * _Z
    centre = (right + square / 2) / (count + square)
    half = _Z / (count + square) * math.sqrt(count * value * (1 - value) + square / 4)
    return Interval(value, max(0.0, min(value, centre - half)), min(1.0, max(value, centre + half)))


def _percentiles(values: Sequence[float], resamples: int, seed: int) -> Interval:
    if not values:
        raise ValueError("an interval needs at least one value")
    source = random.Random(f"bootstrap:{seed}")
    count = len(values)
    resamples = min(resamples, max(_FEWEST, _DRAWS // count))
    means = sorted(sum(source.choices(values, k=count)) / count for _ in range(resamples))
    return Interval(
        sum(values) / count, means[int(0.025 * resamples)], means[min(resamples - 1, int(0.975 * resamples))]
    )
