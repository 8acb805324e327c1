"""Bootstrap intervals: they hold the estimate, narrow with more questions, and pair the arms."""

import pytest

from local_fusion.evaluate.intervals import difference, share


def test_the_interval_holds_the_share_and_narrows() -> None:
    few = share([True, False] * 20)
    many = share([True, False] * 400)
    assert few.value == many.value == 0.5
    assert few.low < 0.5 < few.high
    assert many.high - many.low < few.high - few.low


def test_a_certain_arm_has_no_width() -> None:
    assert share([True] * 30).low == share([True] * 30).high == 1.0


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
