"""On 400 held-out questions drawn now: what fusion gains over the best member, with the margins the models promise."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from local_fusion.batch.options import BatchOptions
from local_fusion.batch.run import run_batch
from local_fusion.cli.demo import write_questions
from local_fusion.config import Config
from local_fusion.engine import Engines
from local_fusion.evaluate.arms import Arm, grade_run
from local_fusion.fusion.recipe import Recipe
from local_fusion.runtime import recipe_of
from local_fusion.zoo.grading import grade

QUESTIONS = 400
GAIN = 0.20
pytestmark = pytest.mark.vllm


async def test_fusion_beats_every_member(fleet: Engines, shipped: Config, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    asked = write_questions(tmp_path, QUESTIONS, seed)

    async def arm(name: str, recipe: Recipe) -> Arm:
        place = tmp_path / name
        summary = await run_batch(tmp_path / "questions.jsonl", place, fleet, recipe, BatchOptions())
        # A judge asked alone knows no skill, and may say nothing at all; whoever has a seat says something.
        assert summary.failed == 0 or recipe.seats[0].model == recipe.judge == shipped.fusion("demo").judge_name
        return grade_run(name, place, summary, asked, grade, True)

    models = shipped.fusion("demo").models
    alone = {
        model: await arm(model, recipe_of(shipped, "demo", panel=[model], judge=model, writer=[model], mode="best-of"))
        for model in models
    }
    best_member = max(alone[member.model].share.value for member in shipped.fusion("demo").panel)
    judge = alone[shipped.fusion("demo").judge_name].share.value
    shares = {}
    for mode in ("best-of", "merge", "vote"):
        shares[mode] = (await arm(mode, recipe_of(shipped, "demo", mode=mode))).share.value
    told = f"seed {seed}: {shares}, best member {best_member}, judge alone {judge}"
    print(told)
    for mode in ("best-of", "merge"):
        assert shares[mode] >= best_member + GAIN, told
        assert shares[mode] >= judge + GAIN, told
    assert shares["vote"] >= best_member, told
