"""Restarts in a row are bounded; deaths far apart never add up."""

from __future__ import annotations

import pytest

from local_fusion.cluster.budget import CALM_S, RestartBudget


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("allowed", "given"), [(0, 0), (3, 3), (-1, 50)])
def test_restarts_in_a_row(allowed: int, given: int):
    budget = RestartBudget(allowed, Clock())
    assert sum(budget.take() for _ in range(50)) == given
    assert budget.used == given


@pytest.mark.parametrize(("up_s", "goes_on"), [(CALM_S, True), (CALM_S - 1, False)])
def test_a_calm_time_is_a_new_beginning(up_s: float, goes_on: bool):
    clock = Clock()
    budget = RestartBudget(2, clock)
    for _ in range(20):
        budget.is_up()
        clock.now += up_s
        allowed = budget.take()
    assert allowed == goes_on
    assert budget.used == (1 if goes_on else 2)


def test_starts_that_fail_one_after_another_have_no_calm_time():
    clock = Clock()
    budget = RestartBudget(2, clock)
    budget.is_up()
    clock.now += CALM_S
    taken = 0
    while budget.take():
        clock.now += CALM_S
        taken += 1
    assert taken == 2
