"""No engine is started that no missing call needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from eval_fakes import CountingEngine, asked, config_of, engines_of, order_of, recipe_of, run, sums

from local_fusion.engine import Engines
from local_fusion.evaluate.evaluation import Order, evaluate_opening
from local_fusion.evaluate.items import Item
from local_fusion.evaluate.runner import Evaluated
from local_fusion.evaluate.store import CallStore
from local_fusion.types import Message

ARMS = ("vote", "best-of", "merge", "debate", "self-vote")


class Opener:
    """Opens counting engines, and remembers which models were started."""

    def __init__(self) -> None:
        self.started: list[tuple[str, ...]] = []
        self.engines: dict[str, CountingEngine] = {}

    @asynccontextmanager
    async def __call__(self, models: Sequence[str]) -> AsyncIterator[Engines]:
        self.started.append(tuple(models))
        every = engines_of(config_of())
        self.engines = {model: every[model] for model in models}
        yield self.engines


async def opening(order: Order) -> tuple[Evaluated, Opener]:
    opener = Opener()
    store = CallStore(order.folder, dict.fromkeys(order.models, "same"))
    try:
        return await evaluate_opening(order, store, opener), opener
    finally:
        store.close()


async def test_a_fresh_folder_starts_every_engine_and_a_finished_one_none(tmp_path: Path) -> None:
    order = order_of(tmp_path, sums(6), recipe_of(config_of()), ARMS)
    first, opener = await opening(order)
    assert opener.started == [("ada", "bob", "cyd", "jed")]
    second, opener = await opening(order)
    assert opener.started == []
    assert [one.grades for one in second.arms] == [one.grades for one in first.arms]
    assert [[said.texts for said in one.said] for one in second.arms] == [
        [said.texts for said in one.said] for one in first.arms
    ]


async def test_other_criteria_start_the_judge_alone(tmp_path: Path) -> None:
    await opening(order_of(tmp_path, sums(6), recipe_of(config_of()), ARMS))
    changed = order_of(tmp_path, sums(6), recipe_of(config_of(), criteria="Be brief."), ARMS)
    evaluated, opener = await opening(changed)
    assert opener.started == [("jed",)]
    assert asked(opener.engines) > 0
    assert not any(said.failure for one in evaluated.arms for said in one.said)
    again = engines_of(config_of())
    same = await run(changed, again)
    assert asked(again) == 0
    assert [one.grades for one in same.arms] == [one.grades for one in evaluated.arms]


@pytest.mark.parametrize("change", ["items", "arms"])
async def test_a_missing_call_of_a_member_starts_all(tmp_path: Path, change: str) -> None:
    await opening(order_of(tmp_path, sums(4), recipe_of(config_of()), ("vote",)))
    arms = ("vote",) if change == "items" else ("vote", "debate")
    order = order_of(tmp_path, sums(6 if change == "items" else 4), recipe_of(config_of()), arms)
    evaluated, opener = await opening(order)
    assert opener.started == [("ada", "bob", "cyd", "jed")]
    assert not any(said.failure for one in evaluated.arms for said in one.said)


async def test_what_no_judge_grades_is_graded_once_in_all_passes(tmp_path: Path) -> None:
    graded: list[tuple[str, str]] = []

    def given(expected: str, text: str) -> bool:
        graded.append((expected, text))
        return expected in text

    items = [Item(f"sum-{n}", (Message("user", f"What is 2 + 2? ({n})"),), "given", str(n)) for n in range(5)]
    for criteria in ("", "Be brief."):  # the second time: what is missing is found first, then the judge is asked
        graded.clear()
        order = order_of(tmp_path, items, recipe_of(config_of(), criteria=criteria), ARMS)
        opener, store = Opener(), CallStore(order.folder, dict.fromkeys(order.models, "same"))
        try:
            await evaluate_opening(order, store, opener, given)
        finally:
            store.close()
        assert opener.started
        assert len(graded) == len(set(graded)) > 0
