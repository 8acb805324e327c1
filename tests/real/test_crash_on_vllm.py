"""Kill a host, an engine and the driver of a batch on real engines: every row once, no journaled call again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import local_fusion
from local_fusion.zoo.questions import questions
from tests.real.crashing import Batch

ROWS = 400
pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]


def test_host_engine_and_driver_may_die(short_folder: Path) -> None:
    source = short_folder / "in.jsonl"
    drawn = questions(11, ROWS, "heldout")
    ids = [f"row-{number}" for number in range(ROWS)]
    source.write_text(
        "".join(json.dumps({"id": name, "prompt": one.prompt}) + "\n" for name, one in zip(ids, drawn, strict=True))
    )
    shipped = (Path(local_fusion.__file__).parent / "models.yaml").read_text()
    config = short_folder / "models.yaml"
    config.write_text(shipped.replace("fusions:\n", PAIR, 1))
    batch = Batch(config, "pair", source, short_folder)
    batch.run(["host", "engine", "driver"], growth_bytes=100_000, seed=5)
    assert batch.kills == ["host", "engine", "driver"]
    batch.check(ids)


PAIR = """fusions:
  pair:
    panel: [{model: llama-words, samples: 4, sampling: {temperature: 0.8}}]
    judge: qwen-judge
    mode: merge
    templates: short
    analysis_items: 2
    analysis_chars: 48
    max_judge_tokens: 192
    max_writer_tokens: 48
"""
