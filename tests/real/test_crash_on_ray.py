"""Kill drivers and hosts of a batch through Ray on scripted engines: every row once, no journaled call again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.real.crashing import Batch

CONFIG = """
models:
  ada: &model {engine: scripted, restarts: -1, scripted: {delay_s: 0.05, delay_spread: 0.9, fail_rate: 0.05}}
  bob: *model
fusions:
  pair: {panel: [ada, {model: bob, samples: 2}], judge: bob, mode: merge}
"""
ROWS = 300
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]


def test_drivers_and_hosts_may_die(short_folder: Path) -> None:
    config, source = short_folder / "models.yaml", short_folder / "in.jsonl"
    config.write_text(CONFIG)
    ids = [f"row-{number}" for number in range(ROWS)]
    source.write_text("".join(json.dumps({"id": name, "prompt": f"Question {name}?"}) + "\n" for name in ids))
    batch = Batch(config, "pair", source, short_folder)
    batch.run(["host", "driver", "host", "driver", "host"], growth_bytes=120_000, seed=3)
    assert batch.kills == ["host", "driver", "host", "driver", "host"]
    batch.check(ids)
