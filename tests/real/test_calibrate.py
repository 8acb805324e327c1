"""Calibration of the shipped models from a shuffled arrangement: it finds the judge and the panel by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_fusion.calibrate.bench import Bench
from local_fusion.calibrate.calibration import HELD_OUT, Order, calibrate
from local_fusion.calibrate.evidence import evidence_of, page_of
from local_fusion.calibrate.history import apply, undo
from local_fusion.calibrate.space import Space
from local_fusion.cli.evaluate import shipped_set
from local_fusion.config import Config, FusionSettings, load_config
from local_fusion.engine import Engines
from local_fusion.evaluate.grading import Grader
from local_fusion.evaluate.runner import Runner
from local_fusion.evaluate.store import CallStore
from local_fusion.zoo.grading import grade

ITEMS, SEED = 120, 23
pytestmark = pytest.mark.vllm


def shuffled(shipped: Config) -> FusionSettings:
    """The demo with a specialist as judge and writer, and the judge on the panel."""
    demo = shipped.fusion("demo")
    panel = [member.model for member in demo.panel]
    changes = {"panel": [*panel, demo.judge_name], "judge": panel[1], "writer": [panel[1]], "mode": "best-of"}
    return FusionSettings.model_validate(demo.model_dump() | changes)


async def test_it_finds_the_arrangement_from_a_shuffled_one(fleet: Engines, shipped: Config, tmp_path: Path) -> None:
    config = tmp_path / "models.yaml"
    assert shipped.source is not None
    config.write_text(shipped.source.read_text())
    space = Space("demo", shuffled(shipped), shipped.models, tmp_path)
    order = Order(shipped_set(ITEMS, SEED), space, space.present.judge_name, tmp_path / "calls", seed=SEED)
    store = CallStore(order.folder, dict.fromkeys(order.models, "shipped"))
    try:
        found = await calibrate(order, fleet, store, grade)
        page = page_of(evidence_of(order, found, {}), found.steps)
        print(page)
        runner = Runner(fleet, store, Grader(fleet, store, order.grader, grade), SEED)
        demo = shipped.fusion("demo")
        check = Bench(runner, order.half(HELD_OUT))
        held_out = await check.trial("demo", demo, Space("demo", demo, shipped.models).own)
    finally:
        store.close()
    judge = shipped.fusion("demo").judge_name
    assert found.changes, found.why
    assert found.settings.judge_name == judge
    specialists = {member.model for member in shipped.fusion("demo").panel}
    assert specialists <= {member.model for member in found.settings.panel} <= specialists | {judge}
    assert found.gain.value > 0.1, found.why
    against = found.new.gain_over(held_out)
    assert against.value >= -0.05, f"{found.new.mean} against the demo's {held_out.mean}: {against}"
    wanted = {**shipped.fusions, "found": found.settings}
    version, _ = apply(config, "found", found.settings, evidence_of(order, found, {}), page, found.table, "demo")
    assert set(load_config(config).fusions) == set(wanted)
    assert version == 1
    undo(config, "found")
    assert config.read_text() == shipped.source.read_text()
