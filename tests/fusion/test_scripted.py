"""The fusion over the engines that ship for tests: every mode, with faults by seed, again and again the same."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from local_fusion.config.schema import FusionSettings, ModelSettings, ScriptedSettings
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.errors import FusionError
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import make_recipe
from local_fusion.types import MODES, Fused, Message, Request

FAULTS = {
    "a": ScriptedSettings(fail_rate=0.3, garbage_rate=0.2),
    "b": ScriptedSettings(empty_rate=0.3, garbage_rate=0.3),
    "c": ScriptedSettings(answers=("It is 85.", "85", "The sum is 86."), fail_rate=0.2),
    "judge": ScriptedSettings(fail_rate=0.2, garbage_rate=0.3),
    "second": ScriptedSettings(empty_rate=0.3),
}


def recipe(mode, **more):
    fusion = FusionSettings(
        panel=({"model": "a", "samples": 2}, "b", "c"), judge="judge", writer=("judge", "second"), mode=mode, **more
    )
    return make_recipe("faulty", fusion, {name: ModelSettings(engine="scripted") for name in FAULTS})


async def run(mode, rows, settings=FAULTS, **more) -> list[Fused | FusionError]:
    engines = {name: ScriptedEngine(name, scripted) for name, scripted in settings.items()}
    made = recipe(mode, **more)
    questions = [Message("user", f"What is 47 + {row}?") for row in range(rows)]
    results = await asyncio.gather(
        *(fuse(Request(f"row-{row}", (turn,), seed=3), made, engines) for row, turn in enumerate(questions)),
        return_exceptions=True,
    )
    assert all(engine.running == 0 for engine in engines.values())
    return results


def told(result):
    if isinstance(result, FusionError):
        return result.code, result.failures
    receipt = result.receipt
    return result.text, result.model, result.degraded, receipt.why, receipt.failures, [c.call_id for c in receipt.calls]


@pytest.mark.parametrize("mode", MODES)
async def test_every_row_under_faults_is_one_answer_or_one_typed_error_and_the_same_again(mode):
    first, second = await run(mode, 60), await run(mode, 60)
    assert all(isinstance(result, Fused | FusionError) for result in first)
    assert list(map(told, first)) == list(map(told, second))
    fused = [result for result in first if isinstance(result, Fused)]
    assert len(fused) > 50
    assert all(result.text.strip() for result in fused)
    reasons = Counter(failure.reason for result in fused for failure in result.receipt.failures)
    assert {"engine_error", "empty"} <= set(reasons)
    assert any(result.degraded for result in fused)


@pytest.mark.parametrize("mode", ["best-of", "merge", "layered"])
async def test_engines_that_hang_hold_no_row_longer_than_its_calls_may_take(mode):
    settings = {name: scripted.model_copy(update={"hang_rate": 0.2}) for name, scripted in FAULTS.items()}
    async with asyncio.timeout(60):
        results = await run(mode, 30, settings, member_timeout_s=0.2)
    assert all(isinstance(result, Fused | FusionError) for result in results)
    reasons = {f.reason for result in results if isinstance(result, Fused) for f in result.receipt.failures}
    assert "timeout" in reasons


async def test_best_of_takes_what_the_judge_prefers():
    settings = {
        "a": ScriptedSettings(answers=("wrong",)),
        "b": ScriptedSettings(answers=("wrong too",)),
        "c": ScriptedSettings(answers=("right",)),
        "judge": ScriptedSettings(prefer="right", answers=("written",)),
        "second": ScriptedSettings(),
    }
    results = await run("best-of", 20, settings)
    assert {result.text for result in results} == {"right"}
