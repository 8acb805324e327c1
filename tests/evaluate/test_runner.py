"""The panel is asked once; every arm is over the same bytes; a change of judge or criteria asks only the judge."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from eval_fakes import CONFIG, asked, config_of, engines_of, order_of, recipe_of, run, sums

from local_fusion.errors import InputError, RunError
from local_fusion.evaluate.evaluation import conclude, evaluate
from local_fusion.evaluate.grading import Grader
from local_fusion.evaluate.items import Grade, Item, Said
from local_fusion.evaluate.plans import MOST_SAMPLES, Arm, bought, make_plan
from local_fusion.evaluate.runner import Runner
from local_fusion.evaluate.store import CALLS, CallStore
from local_fusion.types import Message

ARMS = (
    "vote", "best-of", "merge", "merge-unguarded", "debate", "layered", "auto",
    "self-vote", "self-best-of", "self-equal",
)  # fmt: skip


async def test_every_arm_is_over_panel_answers_that_were_asked_once(tmp_path: Path) -> None:
    config = config_of()
    engines = engines_of(config)
    evaluated = await run(order_of(tmp_path, sums(12), recipe_of(config)), engines)
    names = [one.arm.name for one in evaluated.arms]
    assert names == ["ada", "bob", "cyd", *ARMS, "judge-alone", "oracle"]
    assert all(count == 1 for engine in engines.values() for count in engine.asked.values())
    first = [call for engine in engines.values() for call in engine.asked if "/panel/" in call]
    assert sum(call.split("/")[3] == "0" for call in first) == 12 * 4  # the panel and the judge alone
    samples = max(sum(call.stage == "panel" for call in said.calls) for said in evaluated.arm("self-equal").said)
    assert samples > 3
    assert sum(call.split("/")[3] != "0" for call in first) == 12 * (samples - 1)  # the first is the panel's own
    for place in range(12):
        panel = {answer.model: answer.text for answer in evaluated.panel[place]}
        for model, text in panel.items():
            assert evaluated.arm(model).said[place].texts == (text,)
        assert evaluated.arm("best-of").said[place].texts[0] in panel.values()
        assert evaluated.arm("vote").said[place].texts[0] in panel.values()


@pytest.mark.parametrize(
    "change", [{"criteria": "Be brief."}, {"judge": "bob"}, {"guard_margin": 1.0}, {"mode": "vote"}]
)
async def test_a_changed_judge_criteria_or_mode_does_not_ask_the_panel_again(
    tmp_path: Path, change: dict[str, object]
) -> None:
    config, arms = config_of(), ("vote", "best-of", "merge")
    await run(order_of(tmp_path, sums(8), recipe_of(config), arms), engines_of(config))
    again = engines_of(config)
    await run(order_of(tmp_path, sums(8), recipe_of(config, **change), arms), again)
    assert asked(again, "panel") == 0
    assert (asked(again) > 0) == ("criteria" in change or "judge" in change)


async def test_what_went_wrong_is_told_and_not_what_it_stopped(tmp_path: Path) -> None:
    """The second item cannot be graded; the first, under way, is cancelled by that."""

    class Breaking(Grader):
        async def grade(self, item: Item, said: Said, baseline: Sequence[str] = ()) -> Grade:
            if item.id == items[0].id:
                await asyncio.Event().wait()
            raise RunError("the disk is full")

    config, items = config_of(), sums(2)
    engines, store = engines_of(config), CallStore(tmp_path / "eval", {})
    runner = Runner(engines, store, Breaking(engines, store, "jed"))
    with pytest.raises(RunError, match="the disk is full"):
        await runner.answer(Arm("one", "fusion", {"": recipe_of(config)}), items)
    store.close()


async def test_the_same_evaluation_again_asks_nothing(tmp_path: Path) -> None:
    config = config_of()
    first = await run(order_of(tmp_path, sums(8), recipe_of(config)), engines_of(config))
    again = engines_of(config)
    second = await run(order_of(tmp_path, sums(8), recipe_of(config)), again)
    assert asked(again) == 0
    told = [[(said.texts, said.why, said.verdict, said.tokens) for said in one.said] for one in second.arms]
    assert told == [[(said.texts, said.why, said.verdict, said.tokens) for said in one.said] for one in first.arms]
    assert [one.grades for one in second.arms] == [one.grades for one in first.arms]


async def test_more_items_ask_only_for_the_new_ones(tmp_path: Path) -> None:
    config = config_of()
    await run(order_of(tmp_path, sums(4), recipe_of(config), ("vote",)), engines_of(config))
    again = engines_of(config)
    await run(order_of(tmp_path, sums(6), recipe_of(config), ("vote",)), again)
    assert asked(again, "panel") == 2 * 3


async def test_self_samples_are_as_many_as_the_panel_and_of_the_member_best_on_the_other_half(tmp_path: Path) -> None:
    config = config_of()
    evaluated = await run(order_of(tmp_path, sums(20), recipe_of(config), ("self-vote",)), engines_of(config))
    arm = evaluated.arm("self-vote")
    for place, said in enumerate(arm.said):
        assert len(said.calls) == 3
        assert {call.model for call in said.calls} == {evaluated.best[place]}


@pytest.mark.parametrize("beside", [("merge",), ("merge", "self-vote"), ("best-of",)])
async def test_the_equal_compute_arm_spends_what_the_fusion_spends(tmp_path: Path, beside: tuple[str, ...]) -> None:
    talk = "Let us think of it step by step, and be careful about every one of the steps. " * 4
    config, names = config_of(CONFIG.replace('["', f'["{talk}')), (*beside, "self-equal")
    evaluated = await run(order_of(tmp_path, sums(20), recipe_of(config), names), engines_of(config))
    fusion, equal = evaluated.arm(beside[0]), evaluated.arm("self-equal")
    assert evaluated.plan.main == beside[0]
    assert abs(equal.spent - fusion.spent) < 0.1 * fusion.spent
    assert beside[0] in equal.arm.about
    for place, said in enumerate(equal.said):
        assert {call.model for call in said.calls if call.stage == "panel"} == {evaluated.best[place]}
    again = engines_of(config)
    same = await run(order_of(tmp_path, sums(20), recipe_of(config), names), again)
    assert asked(again) == 0
    assert [said.texts for said in same.arm("self-equal").said] == [said.texts for said in equal.said]


def test_equal_compute_needs_a_fusion_and_has_a_most() -> None:
    recipe = recipe_of(config_of())
    with pytest.raises(InputError, match="name one beside it, such as merge"):
        make_plan(recipe, ("self-equal", "oracle"))
    for budget, spent, samples in ((1_000, 100, 30), (100_000, 100, MOST_SAMPLES), (1, 100, 1), (5, 0, 1)):
        assert bought(3, spent, budget) == samples


async def test_oracle_is_right_where_any_panel_answer_is(tmp_path: Path) -> None:
    config = config_of()
    evaluated = await run(order_of(tmp_path, sums(20), recipe_of(config), ("vote", "oracle")), engines_of(config))
    for place, answers in enumerate(evaluated.panel):
        assert evaluated.arm("oracle").grades[place].score == max(answer.grade.score or 0 for answer in answers)


async def test_a_member_that_fails_costs_its_own_arm_only(tmp_path: Path) -> None:
    config = config_of(CONFIG.replace('answers: ["It is 7."]', "fail_rate: 1.0"))
    engines = engines_of(config)
    evaluated = await run(order_of(tmp_path, sums(6), recipe_of(config), ("vote", "best-of")), engines)
    assert all(said.failure == "all_panels_failed" for said in evaluated.arm("cyd").said)
    assert all(grade.score == 0 for grade in evaluated.arm("cyd").grades)
    assert not any(said.failure for said in evaluated.arm("best-of").said)
    healed = engines_of(config_of())
    await run(order_of(tmp_path, sums(6), recipe_of(config), ("vote",)), healed)
    assert asked(healed) == 0
    await run(order_of(tmp_path, sums(6), recipe_of(config), ("vote",)), healed, retry_failed=True)
    assert sum(healed["cyd"].asked.values()) == 6


async def test_later_turns_follow_what_the_arm_itself_said(tmp_path: Path) -> None:
    config = config_of()
    talk = [Item("talk", (Message("user", "What is 2 + 2?"),), "points", [], then=("And why?",))]
    engines = engines_of(config)
    evaluated = await run(order_of(tmp_path, talk, recipe_of(config), ("best-of", "oracle")), engines)
    for one in evaluated.arms:
        assert len(one.said[0].texts) == 2
        assert one.grades[0].score is not None
    turns = {call.split("/")[0] for engine in engines.values() for call in engine.asked}
    assert turns == {"talk", "talk~turn-2"}


async def test_pairs_are_judged_against_the_first_member_where_there_is_no_baseline(tmp_path: Path) -> None:
    config = config_of()
    pairs = [Item(f"pair-{n}", (Message("user", f"Say it ({n})."),), "pair") for n in range(6)]
    evaluated = await run(order_of(tmp_path, pairs, recipe_of(config), ("best-of",)), engines_of(config))
    assert [grade.score for grade in evaluated.arm("ada").grades] == [0.5] * 6
    fours = [place for place in range(6) if "is 4" in evaluated.arm("bob").said[place].texts[0]]
    fives = [place for place in range(6) if "is 5" in evaluated.arm("ada").said[place].texts[0]]
    for place in set(fours) & set(fives):
        assert (evaluated.arm("bob").grades[place].score or 0) > 0.8


async def test_a_stop_ends_soon_and_the_same_order_goes_on(tmp_path: Path) -> None:
    config = config_of(CONFIG.replace('answers: ["It is 7."]', 'answers: ["It is 7."], delay_s: 0.05'))
    order = order_of(tmp_path, sums(40), recipe_of(config), ("vote",), in_flight=4)
    engines, stop = engines_of(config), asyncio.Event()
    store = CallStore(tmp_path, dict.fromkeys(order.models, "same"))
    asyncio.get_running_loop().call_later(0.12, stop.set)
    with pytest.raises(RunError, match="same command"):
        await evaluate(order, engines, store, stop=stop)
    store.close()
    done = {call for call, count in engines["cyd"].asked.items() if count}
    again = engines_of(config_of())
    await run(order, again)
    assert len(set(again["cyd"].asked) & done) <= 4
    assert len(set(again["cyd"].asked) | done) == 40


def test_a_kill_loses_only_calls_under_way(tmp_path: Path) -> None:
    program = Path(__file__).with_name("eval_program.py")
    command = [sys.executable, str(program), str(tmp_path / "eval"), str(tmp_path / "log")]
    for least in (150, 400):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            if _lines(tmp_path / "eval" / CALLS) >= least or process.poll() is not None:
                break
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    started = Counter(json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
    assert sum(count - 1 for count in started.values()) <= 2 * 8 * 4
    assert _lines(tmp_path / "eval" / CALLS) == len(started)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


async def test_another_weight_under_the_same_name_is_refused(tmp_path: Path) -> None:
    CallStore(tmp_path, {"ada": "one"}).close()
    CallStore(tmp_path, {"ada": "one", "bob": "two"}).close()
    with pytest.raises(InputError, match="bob under other weights"):
        CallStore(tmp_path, {"bob": "three"})
    CallStore(tmp_path, {"ada": "one"}).close()


async def test_a_folder_is_used_by_one_evaluation_at_a_time(tmp_path: Path) -> None:
    store = CallStore(tmp_path, {})
    with pytest.raises(InputError, match="another run"):
        CallStore(tmp_path, {})
    store.close()


async def test_a_torn_last_line_is_cut_and_a_damaged_one_refused(tmp_path: Path) -> None:
    config = config_of()
    await run(order_of(tmp_path, sums(3), recipe_of(config), ("vote",)), engines_of(config))
    whole = (tmp_path / CALLS).read_bytes()
    (tmp_path / CALLS).write_bytes(whole[:-20])
    again = engines_of(config)
    await run(order_of(tmp_path, sums(3), recipe_of(config), ("vote",)), again)
    assert asked(again) == 1
    (tmp_path / CALLS).write_bytes(b"nonsense\n" + whole)
    with pytest.raises(InputError, match="damaged at byte 0"):
        await run(order_of(tmp_path, sums(3), recipe_of(config), ("vote",)), engines_of(config))


async def test_the_folder_holds_figures_texts_and_a_page(tmp_path: Path) -> None:
    config = config_of()
    order = order_of(tmp_path, sums(10), recipe_of(config))
    results = conclude(order, await run(order, engines_of(config)), {"local-fusion": "0"})
    figures = json.loads((tmp_path / "results.json").read_text())
    assert figures["counted"] == 10
    assert {arm["name"] for arm in figures["arms"]} == {arm.name for arm in results.arms}
    lines = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"sum-{n}" for n in range(10)]
    assert set(lines[0]["arms"]) == {arm.name for arm in results.arms}
    assert (tmp_path / "report.html").read_bytes().startswith(b"<!doctype html>")


async def test_a_turn_that_fails_still_costs_what_its_calls_cost(tmp_path: Path) -> None:
    config = config_of(CONFIG.replace('answers: ["It is 7."]', "fail_rate: 1.0"))
    talk = [Item("talk", (Message("user", "What is 2 + 2?"),), "points", [], then=("And why?",))]
    evaluated = await run(order_of(tmp_path, talk, recipe_of(config, quorum=3), ("best-of",)), engines_of(config))
    said = evaluated.arm("best-of").said[0]
    assert said.failure == "quorum_not_met"
    assert sorted(call.model for call in said.calls) == ["ada", "bob"]
    assert said.tokens.completion > 0
