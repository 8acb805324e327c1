"""Figures: paired gains, the best member without looking, what is left out, warnings, cost and frontier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from eval_fakes import CONFIG, config_of, engines_of, order_of, recipe_of, run, sums

from local_fusion.evaluate.choosing import Chooser, half_of
from local_fusion.evaluate.eval_page import eval_page
from local_fusion.evaluate.intervals import least_difference
from local_fusion.evaluate.items import Grade, Item, PanelAnswer, Said
from local_fusion.evaluate.measure import Price, Results, measure
from local_fusion.evaluate.panel_study import study
from local_fusion.evaluate.runner import Evaluated
from local_fusion.types import Message, Stage, StageUsage, Timing, Tokens


def items(count: int) -> list[Item]:
    return [Item(f"item-{n}", (Message("user", "?"),), "exact", "x") for n in range(count)]


def test_the_best_member_is_chosen_on_the_other_half() -> None:
    asked = items(200)
    even = [Grade(float(half_of(item.id) == 0)) for item in asked]
    odd = [Grade(float(half_of(item.id) == 1)) for item in asked]
    chooser = Chooser(asked, {"even": even, "odd": odd})
    assert chooser.halves == ("even", "odd")
    for item, name in zip(asked, chooser.best, strict=True):
        assert name == ("odd" if half_of(item.id) == 0 else "even")
    assert 60 < sum(half_of(item.id) for item in asked) < 140


def test_one_item_is_compared_with_the_best_in_hindsight() -> None:
    chooser = Chooser(items(1), {"a": [Grade(0.0)], "b": [Grade(1.0)]})
    assert chooser.best == ["b"]


def test_the_least_difference_shrinks_with_the_root_of_the_count() -> None:
    few, many = [1.0, 0.0] * 50, [1.0, 0.0] * 200
    least = least_difference(few, [0.5] * 100)
    assert least == pytest.approx(2.8 * 0.5 / 10, rel=0.02)
    assert least_difference(many, [0.5] * 400) == pytest.approx(least / 2, rel=0.02)
    assert least_difference(few, few) is None


async def evaluated(folder: Path, count: int = 30, arms: tuple[str, ...] = ("vote", "best-of", "oracle")) -> Evaluated:
    config = config_of()
    return await run(order_of(folder, sums(count), recipe_of(config, mode="best-of"), arms), engines_of(config))


def measured(found: Evaluated, price: float | None = None, grader: str = "") -> Results:
    results = measure(found, Price(price), grader)
    assert results is not None
    return results


async def test_gains_are_paired_and_members_have_none(tmp_path: Path) -> None:
    results = measured(await evaluated(tmp_path))
    assert results.main == "best-of"
    gain = results.arm("best-of").gain
    assert gain is not None
    assert gain.value == pytest.approx(results.arm("oracle").gain.value)  # the judge likes what is right
    assert gain.low <= gain.value <= gain.high
    assert results.arm("ada").gain is None
    hindsight = results.arm("best-of").gain_hindsight
    assert hindsight is not None
    best = max(results.arm(name).accuracy.value for name in ("ada", "bob", "cyd"))
    assert hindsight.value == pytest.approx(results.arm("best-of").accuracy.value - best)


async def test_an_item_one_arm_cannot_be_graded_on_is_left_out_for_all(tmp_path: Path) -> None:
    found = await evaluated(tmp_path, 12)
    arm = found.arms[3]
    holed = replace(arm, grades=(Grade(None), *arm.grades[1:]))
    results = measured(replace(found, arms=(*found.arms[:3], holed, *found.arms[4:])))
    assert results.counted == tuple(range(1, 12))
    assert any("1 of 12 items could not be graded" in warning for warning in results.warnings)
    empty = replace(arm, grades=(Grade(None),) * 12)
    assert measure(replace(found, arms=(*found.arms[:3], empty)), Price()) is None


async def test_what_failed_is_told(tmp_path: Path) -> None:
    config = config_of(CONFIG.replace('answers: ["It is 7."]', "fail_rate: 1.0"))
    found = await run(order_of(tmp_path, sums(6), recipe_of(config), ("vote",)), engines_of(config))
    told = " ".join(measured(found).warnings)
    assert "6 of 18 panel answers are missing" in told
    assert "cyd 6" in told


async def test_failed_items_have_no_part_in_the_seconds_but_in_the_tokens(tmp_path: Path) -> None:
    found = await evaluated(tmp_path, 5, ("vote",))
    arm = found.arms[3]
    timed = tuple(
        replace(said, calls=tuple(replace(one, timing=Timing(3.0)) for one in said.calls)) for said in arm.said
    )
    failed = tuple(replace(said, failure="quorum_not_met", calls=said.calls[:1]) for said in timed[:3])
    holed = replace(arm, said=(*failed, *timed[3:]))
    results = measured(replace(found, arms=(*found.arms[:3], holed)))
    assert results.arm("vote").seconds == 3.0
    assert results.arm("vote").tokens == sum((said.tokens for said in holed.said), Tokens())
    assert any("vote 3" in warning and "no part in the seconds" in warning for warning in results.warnings)
    gone = replace(arm, said=tuple(replace(said, failure="x") for said in timed))
    without = replace(found, arms=(*found.arms[:3], gone))
    assert measured(without).arm("vote").seconds is None
    assert b"<!doctype" in eval_page({"set": "s", "fusion": "f"}, measured(without), study(without), without)


async def test_self_samples_that_are_not_as_many_tokens_are_warned_of(tmp_path: Path) -> None:
    found = await evaluated(tmp_path, 5, ("best-of", "self-vote"))
    (told,) = (warning for warning in measured(found).warnings if "not as many tokens" in warning)
    assert "self-vote" in told
    assert "best-of" in told
    beside = await evaluated(tmp_path / "beside", 5, ("best-of", "self-vote", "self-equal"))
    assert not any("tokens, best-of" in warning for warning in measured(beside).warnings)
    whole = beside.arm("self-equal")
    half = replace(whole, said=tuple(replace(said, calls=said.calls[::2]) for said in whole.said))
    unlike = replace(beside, arms=tuple(half if one is whole else one for one in beside.arms))
    (told,) = (warning for warning in measured(unlike).warnings if "could not be made to cost" in warning)
    assert "self-equal" in told
    assert "self-vote" not in told
    alike = await evaluated(tmp_path / "alike", 5, ("self-vote",))
    assert not any("not as many tokens" in warning for warning in measured(alike).warnings)


async def test_a_gain_without_variance_is_warned_of(tmp_path: Path) -> None:
    found = await evaluated(tmp_path, 6, ("best-of", "vote"))
    won = [replace(one, grades=(Grade(float(one.arm.kind == "fusion")),) * 6) for one in found.arms]
    results = measured(replace(found, arms=tuple(won)))
    gain = results.arm("vote").gain
    assert gain is not None
    assert (gain.low, gain.value, gain.high) == (1, 1, 1)
    assert any("vote, best-of is the same on every item" in warning for warning in results.warnings)
    assert not any("scored the same" in warning for warning in results.warnings)


async def test_without_any_fusion_arm_there_is_no_main_one(tmp_path: Path) -> None:
    found = await evaluated(tmp_path, 6, ("oracle",))
    results = measured(found)
    assert (results.main, results.least) == ("", None)
    assert b"<!doctype" in eval_page({"set": "s", "fusion": "f"}, results, study(found), found)


async def test_few_items_are_warned_of(tmp_path: Path) -> None:
    results = measured(await evaluated(tmp_path, 8))
    assert any("few" in warning for warning in results.warnings)
    same = measured(await evaluated(tmp_path, 8, ("vote",)))
    assert same.warnings


async def test_cost_follows_from_gpu_seconds_and_price(tmp_path: Path) -> None:
    found = await evaluated(tmp_path, 10)
    timed = tuple(replace(one, said=tuple(_on_gpu(said) for said in one.said)) for one in found.arms)
    results = measured(replace(found, arms=timed), price=3.6)
    ada, vote = results.arm("ada"), results.arm("vote")
    assert ada.gpu_s == pytest.approx(10 * 0.5)
    assert ada.cost == pytest.approx(3.6 * 0.5 / 3600 * 1000)
    assert vote.cost == pytest.approx(3 * (ada.cost or 0))
    assert results.effort == "cost of 1,000 answers"
    assert results.arm("oracle").cost is None
    unpriced = measured(replace(found, arms=timed))
    assert unpriced.effort.startswith("GPU-seconds")
    assert any("no GPU time" in warning for warning in measured(found, price=3.6).warnings)


def _on_gpu(said: Said) -> Said:
    return replace(said, calls=tuple(replace(call, timing=Timing(1.0, gpu_s=0.5)) for call in said.calls))


async def test_the_frontier_holds_no_arm_that_another_beats_on_both(tmp_path: Path) -> None:
    results = measured(await evaluated(tmp_path, 40))
    real = [arm for arm in results.arms if arm.kind != "oracle"]
    for arm in real:
        better = [
            other
            for other in real
            if other.accuracy.value > arm.accuracy.value and (other.effort or 0) < (arm.effort or 0)
        ]
        assert not (arm.frontier and better)
    assert any(arm.frontier for arm in real)
    assert not results.arm("oracle").frontier


def test_seconds_are_the_slowest_of_each_stage_turn_by_turn() -> None:
    def call(stage: str, seconds: float, request: str = "a") -> StageUsage:
        return StageUsage(stage, "m", 0, Tokens(1, 0, 1), Timing(seconds), f"{request}/{stage}/m/0/x")

    said = Said(("x", "y"), calls=(call("panel", 1), call("panel", 3), call("write", 2), call("panel", 4, "a~turn-2")))
    assert said.seconds == 9
    assert said.tokens == Tokens(4, 0, 4)


async def test_judging_oneself_is_warned_of(tmp_path: Path) -> None:
    config = config_of()
    asked = [Item(f"p-{n}", (Message("user", f"Say ({n})."),), "points", []) for n in range(4)]
    found = await run(order_of(tmp_path, asked, recipe_of(config), ("vote",)), engines_of(config))
    assert any("judges like their own" in warning for warning in measured(found, grader="jed").warnings)
    assert not any("judges like" in warning for warning in measured(found, grader="bob").warnings)


async def test_agreement_and_calibration(tmp_path: Path) -> None:
    found = await evaluated(tmp_path, 30)
    told = study(found)
    assert told.models == ("ada", "bob", "cyd")
    for place in range(3):
        assert told.agreement[place][place] == 1.0
    ada, bob = ([said.texts[0] for said in found.arm(name).said] for name in ("ada", "bob"))
    same = sum(("is 4" in one) and ("is 4" in other) for one, other in zip(ada, bob, strict=True)) / 30
    assert told.agreement[0][1] == told.agreement[1][0] == pytest.approx(same)
    assert all(told.disagreed)  # cyd always says 7
    for one in told.calibration:
        assert [bar.count for bar in one.bins] == [30]  # all equally certain: one group, whatever was right
        assert one.bins[0].certainty == pytest.approx(0.9)
        assert one.gap == pytest.approx(abs(0.9 - one.bins[0].accuracy))


@pytest.mark.parametrize(
    ("certainties", "counts"),
    [
        (range(13), [6, 7]),
        (range(203), [25] * 5 + [26] * 3),
        (range(47), [5] + [6] * 7),
        (range(16), [5, 5, 6]),
        (range(3), [3]),
        ([0] * 24 + [*range(1, 17)], [24, 5, 5, 6]),
        ([*range(10)] + [99] * 11, [5, 5, 11]),
        ([*range(5)] + [98] * 11 + [99], [5, 12]),
    ],
)
async def test_bins_are_of_about_equal_counts(tmp_path: Path, certainties: Sequence[int], counts: list[int]) -> None:
    found = await evaluated(tmp_path, 1, ("vote",))
    answers = tuple(PanelAnswer("ada", n, "x", value / 1000, Grade(1.0)) for n, value in enumerate(certainties))
    (told,) = study(replace(found, panel=(answers,))).calibration
    assert [bar.count for bar in told.bins] == counts
    assert [bar.certainty for bar in told.bins] == sorted(bar.certainty for bar in told.bins)


def test_rounds_of_one_stage_come_one_after_the_other_and_orders_at_once() -> None:
    def call(stage: Stage, model: str, seconds: float) -> StageUsage:
        return StageUsage(stage, model, 0, Tokens(), Timing(total_s=seconds), f"one/{stage}/{model}/0/x", 1)

    panel = [call("panel", "ada", 1.0), call("panel", "bob", 2.0)]
    revised = [call("revise", "ada", 3.0), call("revise", "bob", 1.0)]
    assert Said(("x",), calls=(*panel, *revised)).seconds == 5.0
    assert Said(("x",), calls=(*panel, *revised, *revised)).seconds == 8.0
    assert Said(("x",), calls=(*panel, call("pick", "jed", 0.5), call("pick", "jed", 0.25))).seconds == 2.5
