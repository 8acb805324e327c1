"""What the panel's own answers tell: do members' certainties mean anything, and how often do they say the same. Pure.

Certainty is exp(mean token log-probability); compare it within a member. Agreement is by value where answers have one
(a number, a letter, a date, …), else word for word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from local_fusion.answers import Reader
from local_fusion.evaluate.runner import Evaluated

BINS, FEWEST = 8, 5


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of like certainty: means of certainty and score, and how many."""

    certainty: float
    accuracy: float
    count: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """One member: bins of about equal counts by certainty, and the mean gap of certainty and accuracy, weighted."""

    model: str
    bins: tuple[Bin, ...]
    gap: float


@dataclass(frozen=True)
class Study:
    """`agreement[i][j]`: share of items on which members i and j said the same; None where they never both answered.
    `disagreed`: per item, whether any two members said different things."""

    calibration: tuple[Calibration, ...]
    models: tuple[str, ...]
    agreement: tuple[tuple[float | None, ...], ...]
    disagreed: tuple[bool, ...]


def study(evaluated: Evaluated) -> Study:
    """Calibration and agreement of the first round."""
    models = tuple(arm.name for arm in evaluated.plan.members)
    keys = [_keys(evaluated, place) for place in range(len(evaluated.items))]
    agreement = tuple(tuple(_agreement(keys, one, other) for other in models) for one in models)
    disagreed = tuple(len(set(said.values())) > 1 for said in keys)
    points: dict[str, list[tuple[float, float]]] = {model: [] for model in models}
    for answers in evaluated.panel:
        for answer in answers:
            if answer.certainty is not None and answer.grade.score is not None and answer.model in points:
                points[answer.model].append((answer.certainty, answer.grade.score))
    found = tuple(_calibration(model, said) for model, said in points.items() if said)
    return Study(found, models, agreement, disagreed)


def _keys(evaluated: Evaluated, place: int) -> dict[str, str]:
    """What each member said to an item, as something that can be compared; the first sample of each."""
    said: dict[str, str] = {}
    for answer in evaluated.panel[place]:
        said.setdefault(answer.model, answer.text)
    comparison = Reader(evaluated.items[place].question).compare(list(said.values()))
    if comparison is None:
        return {model: f"text {text.strip()}" for model, text in said.items()}
    return {
        model: f"value {key}" if key is not None else f"text {said[model].strip()}"
        for model, key in zip(said, comparison.keys, strict=True)
    }


def _agreement(keys: Sequence[dict[str, str]], one: str, other: str) -> float | None:
    both = [said[one] == said[other] for said in keys if one in said and other in said]
    return sum(both) / len(both) if both else None


def _calibration(model: str, points: Sequence[tuple[float, float]]) -> Calibration:
    bins = tuple(
        Bin(sum(value for value, _ in part) / len(part), sum(score for _, score in part) / len(part), len(part))
        for part in _parts(sorted(points, key=lambda point: point[0]))
    )
    gap = sum(one.count * abs(one.certainty - one.accuracy) for one in bins) / len(points)
    return Calibration(model, bins, gap)


def _parts(ranked: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Neighbours in BINS parts at most, each of about as many of those that are left as the others; answers that are
    as certain as each other stay together."""
    most = min(BINS, max(1, len(ranked) // FEWEST))
    least = wanted = len(ranked) // most
    parts: list[list[tuple[float, float]]] = [[]]
    for place, point in enumerate(ranked):
        if len(parts[-1]) >= wanted and point[0] != parts[-1][-1][0]:
            wanted = max(least, (len(ranked) - place) // (most - len(parts)))
            parts.append([])
        parts[-1].append(point)
    if len(parts) > 1 and len(parts[-1]) < least:
        parts[-2:] = [parts[-2] + parts[-1]]
    return parts
