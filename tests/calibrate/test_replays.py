"""Weights, samples, early exit and the guard's margin: found from what is stored, without one new call."""

from __future__ import annotations

from pathlib import Path

import pytest
from calib_fakes import Member, bench_of, items_of, space_of

from local_fusion.calibrate.bench import Trial
from local_fusion.calibrate.guarding import guard_margin
from local_fusion.calibrate.roles import Roles
from local_fusion.calibrate.steps import Step
from local_fusion.calibrate.votes import LEAST_WEIGHT, MOST_WEIGHT, Votes, weight_of
from local_fusion.evaluate.items import Said


def trial(right: int, count: int) -> Trial:
    scores = [1.0] * right + [0.0] * (count - right)
    return Trial("m", space_of().present, (Said(("",)),), tuple(scores), (1.0,) * count)


def test_weights_are_log_odds_within_bounds() -> None:
    assert weight_of(trial(5, 10)) == LEAST_WEIGHT
    assert weight_of(trial(0, 10)) == LEAST_WEIGHT
    assert weight_of(trial(88, 98)) == pytest.approx(2.09, abs=0.01)  # log(89/11)
    assert weight_of(trial(1000, 1000)) == MOST_WEIGHT


async def test_an_early_exit_is_found_without_a_new_call(tmp_path: Path) -> None:
    engines = {name: Member(name, "sums words days", 0.85) for name in ("ann", "bob", "cyd", "jed")}
    space = space_of(panel=["ann", "bob"], judge="jed", mode="vote")
    bench, store = bench_of(tmp_path, items_of(60), engines)
    steps: list[Step] = []
    roles = Roles(space, bench, steps)
    votes = Votes(space, roles, steps, dict.fromkeys(engines, 0.7))
    try:
        panel = [space.seat(model, samples=4) for model in ("ann", "bob")]
        whole = await roles.try_("whole", space.but(panel=panel, mode="vote"))
        asked = store.fresh
        confidence = await votes.exit_confidence("jed", panel)
        assert store.fresh == asked
        assert asked == 60 * 8
        early = await roles.try_("early", space.but(panel=panel, mode="vote", exit_confidence=confidence))
        assert store.fresh == asked
    finally:
        store.close()
    assert confidence is not None
    assert early.mean >= whole.mean
    assert early.cost < 0.7 * whole.cost
    assert "spares" in steps[-1].why


async def test_samples_are_as_few_as_lose_nothing(tmp_path: Path) -> None:
    engines = {
        "ann": Member("ann", "sums words days"),
        "bob": Member("bob"),
        "cyd": Member("cyd"),
        "jed": Member("jed"),
    }
    space = space_of(panel=["ann"], judge="jed", mode="vote")
    bench, store = bench_of(tmp_path, items_of(20), engines)
    steps: list[Step] = []
    votes = Votes(space, Roles(space, bench, steps), steps, {"ann": 0.7})
    try:
        assert [seat.samples for seat in await votes.sampled("jed", [space.seat("ann", 3)], 3)] == [1]
        cold = Votes(space, Roles(space, bench, steps), steps, {"ann": 0.0})
        assert [seat.samples for seat in await cold.sampled("jed", [space.seat("ann")], 3)] == [1]
    finally:
        store.close()


async def test_weights_are_taken_where_they_help(tmp_path: Path) -> None:
    engines = {
        "ann": Member("ann", "sums words days", 0.95),
        "bob": Member("bob", "sums words days", 0.3),
        "cyd": Member("cyd", "sums words days", 0.3),
        "jed": Member("jed"),
    }
    space = space_of(panel=["ann", "bob", "cyd"], judge="jed", mode="vote")
    bench, store = bench_of(tmp_path, items_of(60), engines)
    steps: list[Step] = []
    roles = Roles(space, bench, steps)
    try:
        alone = await roles.alone()
        panel = await Votes(space, roles, steps, {}).weighted("jed", space.present.panel, alone)
    finally:
        store.close()
    assert panel[0].weight > panel[1].weight
    assert steps[-1].tried[-1].against is not None


@pytest.mark.parametrize(("likes", "higher"), [("is 9", True), ("is 4", False)])
async def test_the_guards_margin_is_replayed(tmp_path: Path, likes: str, higher: bool) -> None:
    """A judge who likes what a poor writer writes must ask for more; one who likes what is right is left as he is."""
    engines = {
        "ann": Member("ann", "sums words days", writes=9),
        "bob": Member("bob"),
        "cyd": Member("cyd"),
        "jed": Member("jed", likes=likes),
    }
    space = space_of(panel=["ann"], judge="jed", writer=["ann"], mode="merge", analysis=False)
    bench, store = bench_of(tmp_path, items_of(30), engines)
    steps: list[Step] = []
    roles = Roles(space, bench, steps)
    settings = space.but()
    try:
        before = await roles.try_("before", settings)
        asked = store.fresh
        margin = await guard_margin(space, roles, steps, settings)
        after = await roles.try_("after", space.but(settings, guard_margin=margin))
        assert store.fresh == asked
    finally:
        store.close()
    assert (margin > 0) is higher
    assert after.mean == 1.0
    assert (before.mean == 0.0) is higher
