"""Intervals: they hold the estimate, narrow with more questions, and pair the arms."""

import random

import pytest

from local_fusion.evaluate.intervals import difference, share


def test_the_interval_holds_the_share_and_narrows() -> None:
    few = share([True, False] * 20)
    many = share([True, False] * 400)
    assert few.value == many.value == 0.5
    assert few.low < 0.5 < few.high
    assert many.high - many.low < few.high - few.low


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(30, 30, 0.8865, 1.0), (0, 30, 0.0, 0.1135), (8, 10, 0.4902, 0.9433)]
)
def test_a_share_near_none_or_all_is_not_certain(right: int, count: int, low: float, high: float) -> None:
    found = share([True] * right + [False] * (count - right))
    assert (found.value, found.low, found.high) == (
        right / count,
        pytest.approx(low, abs=1e-4),
        pytest.approx(high, abs=1e-4),
    )


def test_the_interval_of_a_share_holds_the_truth_as_often_as_it_says() -> None:
    draw = random.Random(1)
    for truth in (0.5, 0.97):
        held = 0
        for _ in range(400):
            found = share([draw.random() < truth for _ in range(60)])
            held += found.low <= truth <= found.high
        assert held / 400 > 0.91


def test_marks_between_have_a_bootstrap() -> None:
    found = share([0.2, 0.4, 0.9, 0.5] * 10)
    assert found.low < 0.5 < found.high
    assert share([0.5] * 20).low == share([0.5] * 20).high == 0.5


def test_pairing_sees_a_small_steady_gain() -> None:
    worse = [index % 2 == 0 for index in range(400)]
    better = [flag or index % 10 == 1 for index, flag in enumerate(worse)]
    gain = difference(better, worse)
    assert gain.value == pytest.approx(0.1)
    assert gain.low > 0


def test_empty_and_unequal_arms_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        share([])
    with pytest.raises(ValueError, match="zip"):
        difference([True], [True, False])
