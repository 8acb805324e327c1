"""Every arm is the way of answering that its name says, whatever the fusion's table of kinds would choose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eval_fakes import engines_of, order_of, run, sums

from local_fusion.config import parse_config
from local_fusion.config.kinds import vector_of
from local_fusion.evaluate.plans import ARMS, make_plan, steady
from local_fusion.fusion.recipe import OF_NO_KIND, Recipe
from local_fusion.runtime import recipe_of

CONFIG = """
models:
  ada: {engine: scripted, scripted: {answers: ["It is 4."], prefer: "is 4"}}
  bob: {engine: scripted, scripted: {answers: ["It is 4."]}}
  cyd: {engine: scripted, scripted: {answers: ["It is 7."]}}
  jed: {engine: scripted, scripted: {answers: ["It is 4."], prefer: "is 4"}}
fusions:
  trio: {panel: [ada, bob, cyd], judge: jed, mode: auto, kinds: kinds.json, quorum: 1}
"""
RARITY = {"what": 1.0, "is": 1.0}


@pytest.fixture
def calibrated(tmp_path: Path) -> Recipe:
    """Its table asks the member that is always wrong, for every prompt of these items and for all others."""
    wrong = {"mode": "best-of", "panel": ["cyd"]}
    kind = {"name": "sums", "words": vector_of("What is", RARITY), "recipe": wrong, "prompts": 9, "why": "won"}
    table = {"version": 3, "rarity": RARITY, "least": 0.1, "kinds": [kind], "otherwise": wrong}
    (tmp_path / "kinds.json").write_text(json.dumps(table))
    return recipe_of(parse_config(CONFIG, tmp_path / "models.yaml"))


async def test_the_table_of_kinds_decides_for_auto_alone(tmp_path: Path, calibrated: Recipe) -> None:
    arms = tuple(name for name in ARMS if name != "judge-alone")
    order = order_of(tmp_path / "eval", sums(4), calibrated, arms)
    evaluated = await run(order, engines_of(parse_config(CONFIG)))
    right = {one.arm.name: sum(grade.score or 0.0 for grade in one.grades) for one in evaluated.arms}
    assert right == dict.fromkeys(("ada", "bob", "cyd", *arms), 4) | {"cyd": 0, "auto": 0}
    assert all("table 3" in said.why for said in evaluated.arm("auto").said)
    assert {len(said.calls) for said in evaluated.arm("vote").said} == {3}
    assert "version 3" in evaluated.arm("auto").arm.about


def test_nothing_that_depends_on_load_is_left_in_the_tables_recipes(calibrated: Recipe) -> None:
    (auto,) = (arm.recipes[""] for arm in make_plan(calibrated).others if arm.name == "auto")
    assert set(auto.by_kind) == {"sums", OF_NO_KIND}
    for recipe in (auto, *auto.by_kind.values(), *steady(calibrated).by_kind.values()):
        settings = recipe.settings
        assert (settings.early_exit, settings.deadline_s, settings.straggler_grace_s) == (False, None, None)
        assert recipe.kinds is None or recipe is auto
