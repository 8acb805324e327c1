"""An evaluation of the shipped models on held-out questions: the panel asked once, the gain with its interval."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_fusion.cli.evaluate import shipped_set
from local_fusion.config import Config
from local_fusion.engine import Engine, Engines, PassingEngine
from local_fusion.evaluate.evaluation import Order, conclude, evaluate
from local_fusion.evaluate.plans import make_plan
from local_fusion.evaluate.store import CallStore
from local_fusion.runtime import recipe_of
from local_fusion.types import Call, Completion
from local_fusion.zoo.grading import grade

ITEMS = 40
ARMS = ("vote", "best-of", "merge", "self-best-of", "oracle")
pytestmark = pytest.mark.vllm


class Counting(PassingEngine):
    """Counts the generations that reach an engine, by stage."""

    def __init__(self, engine: Engine, stages: list[str]) -> None:
        super().__init__(engine)
        self._stages = stages

    async def generate(self, call: Call) -> Completion:
        self._stages.append(call.stage)
        return await super().generate(call)


async def test_an_evaluation_asks_the_panel_once_and_finds_the_gain(
    fleet: Engines, shipped: Config, tmp_path: Path
) -> None:
    def order(**changes: object) -> Order:
        recipe = recipe_of(shipped, "demo", **changes)
        return Order(shipped_set(ITEMS, 7), recipe, make_plan(recipe, ARMS), recipe.judge, tmp_path)

    async def run(order: Order) -> list[str]:
        stages: list[str] = []
        engines = {model: Counting(fleet[model], stages) for model in order.models}
        store = CallStore(tmp_path, dict.fromkeys(order.models, "shipped"))
        try:
            evaluated = await evaluate(order, engines, store, grade)
        finally:
            store.close()
        results.append(conclude(order, evaluated, {}))
        return stages

    results: list = []
    first = await run(order())
    assert first.count("panel") == ITEMS * 3 + ITEMS * 3  # the panel, and as many samples of the best member
    found = results[0]
    assert len(found.counted) == ITEMS
    gain = found.arm("merge").gain
    assert gain is not None
    assert gain.low > 0, f"merge over the best member: {gain}"
    assert found.arm("oracle").accuracy.value >= found.arm("best-of").accuracy.value
    assert all(arm.tokens.completion > 0 for arm in found.arms if arm.kind != "oracle")
    again = await run(order(criteria="Prefer short answers."))
    assert "panel" not in again
    assert "write" in again
    assert (tmp_path / "report.html").stat().st_size > 10_000
