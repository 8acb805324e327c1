"""A batch on the real engines, one call at a time, comes out again byte for byte from its folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from local_fusion.batch.difference import compare, likely_causes
from local_fusion.batch.options import BatchOptions
from local_fusion.batch.recorded import find_row, recipe_again, request_again
from local_fusion.batch.replay import replay
from local_fusion.batch.run import run_batch
from local_fusion.batch.serial import SerialEngines
from local_fusion.config import Config
from local_fusion.engine import Engines
from local_fusion.runtime import identity_of_models, recipe_of, versions
from local_fusion.types import Fused
from local_fusion.zoo.questions import questions

pytestmark = pytest.mark.vllm


@pytest.mark.parametrize("mode", ["merge", "vote"])
async def test_a_serial_run_comes_out_again(fleet: Engines, shipped: Config, tmp_path: Path, mode: str) -> None:
    recipe = recipe_of(shipped, "demo", mode=mode)
    asked = questions(17, 4, "heldout")
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"id": f"r{n}", "prompt": one.prompt}) + "\n" for n, one in enumerate(asked)))
    options = BatchOptions(in_flight=1, identity=identity_of_models(shipped, recipe.settings.models))
    await run_batch(source, tmp_path / "run", SerialEngines(fleet), recipe, options)
    for number in range(len(asked)):
        row = find_row(tmp_path / "run", f"r{number}")
        once_more = recipe_again(row, shipped.models, None)
        again = await replay(request_again(row, once_more), once_more, SerialEngines(fleet))
        assert compare(row, again) == []
        assert isinstance(again.result, Fused)
        body = row.record["response"]["body"]
        assert again.result.text == body["choices"][0]["message"]["content"]
        assert likely_causes(row, once_more, options, versions(), again.result) == []


async def test_another_writer_is_a_named_difference(fleet: Engines, shipped: Config, tmp_path: Path) -> None:
    recipe = recipe_of(shipped, "demo", mode="best-of")
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps({"id": "one", "prompt": "Reverse the word 'planet'."}) + "\n")
    await run_batch(source, tmp_path / "run", SerialEngines(fleet), recipe, BatchOptions())
    row = find_row(tmp_path / "run", "one")

    class Swapped:
        """llama-words answers where qwen-numbers is asked."""

        def __getitem__(self, model: str):
            return fleet["llama-words" if model == "qwen-numbers" else model]

        def __contains__(self, model: object) -> bool:
            return model in fleet

    again = await replay(request_again(row, recipe), recipe, SerialEngines(Swapped()))
    found = compare(row, again)
    assert found[0].where == "the panel call of qwen-numbers sample 0"
    assert found[0].field == "text"
